"""Who shares a step, who came first and who left in between changes nothing for anybody else."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import EngineOverloadedError, InvalidRequestError
from models.types import GenerationRequest
from tests.models.engine_support import (
    RUNNERS,
    Track,
    alone,
    assert_idle,
    collect,
    drive,
    drive_at_random,
    request,
    small_engine,
    small_model,
)

VARIED = [
    request("guided", frames=14, seed=1),
    request("longer", "a much longer prompt about drums and bass", frames=31, seed=2, guidance=5.0, temperature=1.2),
    request("unguided", "soft strings", frames=9, seed=3, guidance=1.0, top_k=5),
    request("no prompt", "", frames=20, seed=4, top_p=0.9),
    request("greedy", "fast techno", frames=17, greedy=True),
    request("top-p", "slow jazz", frames=11, seed=2**63 - 1, top_p=0.5, temperature=0.8),
    request("everything", "ukulele", frames=1, seed=7, top_k=0),
    request("same prompt", "calm piano", frames=14, seed=8),
]
SOLO: dict[tuple[GenerationRequest, bool], Track] = {}


def solo(item: GenerationRequest, stereo: bool = False) -> Track:
    if (item, stereo) not in SOLO:
        SOLO[item, stereo] = alone(item, stereo)
    return SOLO[item, stereo]


def assert_same(track: Track, item: GenerationRequest, stereo: bool = False) -> None:
    """Token for token, sample for sample, chunk for chunk."""
    expected = solo(item, stereo)
    assert track.error is None
    codebooks = 8 if stereo else 4
    np.testing.assert_array_equal(track.codes(codebooks), expected.codes(codebooks), item.request_id)
    assert [chunk.first_sample for chunk in track.chunks] == [chunk.first_sample for chunk in expected.chunks]
    np.testing.assert_allclose(track.pcm, expected.pcm, atol=1e-5, rtol=0)


@RUNNERS
@pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])
def test_all_at_once_equals_each_alone(stereo: bool, runner: dict[str, Any]) -> None:
    engine = small_engine(stereo, **runner)
    tracks = drive(engine, {0: VARIED})
    for item in VARIED:
        assert_same(tracks[item.request_id], item, stereo)
    assert engine.stats().mean_rows_per_step > 4
    assert_idle(engine)


def test_the_test_itself_can_tell_requests_apart() -> None:
    """Seeds, prompts and parameters change the tokens, or the tests here would prove nothing."""
    variants = [
        request(),
        request(seed=1),
        request(prompt="fast techno"),
        request(prompt=""),
        request(guidance=1.0),
        request(guidance=6.0),
        request(temperature=0.5),
        request(greedy=True),
    ]
    codes = [alone(item).codes().tobytes() for item in variants]
    assert len(set(codes)) == len(codes)


@settings(max_examples=12, deadline=None)
@given(
    steps=st.lists(st.integers(0, 40), min_size=len(VARIED), max_size=len(VARIED)),
    max_rows=st.sampled_from([2, 3, 5, 16]),
    order=st.permutations(VARIED),
)
def test_any_arrival_order_gives_the_same_audio(
    steps: list[int], max_rows: int, order: list[GenerationRequest]
) -> None:
    engine = small_engine(max_rows=max_rows)
    arrivals: dict[int, list[GenerationRequest]] = {}
    for step, item in zip(steps, order, strict=True):
        arrivals.setdefault(step, []).append(item)
    tracks = drive(engine, arrivals)
    for item in VARIED:
        assert_same(tracks[item.request_id], item)
    assert_idle(engine)


@RUNNERS
def test_a_small_arena_makes_requests_wait_and_changes_no_token(runner: dict[str, Any]) -> None:
    """KV positions for about two requests: regions are freed, split and reused by requests of other lengths."""
    engine = small_engine(kv_positions=2 * 34 + 2 * 17, **runner)
    tracks = drive(engine, {0: VARIED, 30: [request("late", frames=12, seed=5)]})
    for item in VARIED:
        assert_same(tracks[item.request_id], item)
    assert_same(tracks["late"], request("late", frames=12, seed=5))
    assert_idle(engine)


@RUNNERS
def test_a_reused_row_is_like_a_fresh_one(runner: dict[str, Any]) -> None:
    """One pair of rows, used by everyone in turn, several times over."""
    engine = small_engine(max_rows=2, **runner)
    for item in [*VARIED, *reversed(VARIED)]:
        assert_same(drive(engine, {0: [item]})[item.request_id], item)
    assert_idle(engine)


@RUNNERS
@pytest.mark.parametrize("before_step", range(17))  # the victim would be done after 17 steps
def test_abort_at_any_step_leaves_no_trace(before_step: int, runner: dict[str, Any]) -> None:
    victim, witness, successor = VARIED[0], VARIED[1], VARIED[5]
    engine = small_engine(max_rows=4, kv_positions=2 * 17 + 2 * 34, **runner)
    arrivals = {0: [victim, witness]}
    arrivals.setdefault(before_step, []).append(successor)
    tracks = drive(engine, arrivals, {before_step: [victim.request_id]})
    assert not tracks.get(victim.request_id, Track()).is_complete
    assert_same(tracks[witness.request_id], witness)
    assert_same(tracks[successor.request_id], successor)
    assert_idle(engine)
    stats = engine.stats()
    assert (stats.finished, stats.aborted, stats.failed) == (2, 1, 0)


def test_abort_frees_rows_at_once_also_in_the_line() -> None:
    engine = small_engine(max_rows=2)
    for item in VARIED[:2]:
        engine.add(item)
    engine.step()
    assert (engine.stats().running, engine.stats().waiting) == (1, 1)
    assert engine.abort(VARIED[1].request_id)
    assert engine.stats().waiting == 0
    assert engine.abort(VARIED[0].request_id)
    assert not engine.abort(VARIED[0].request_id), "it is gone already"
    assert_idle(engine)


@RUNNERS
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_traffic_with_aborts(runner: dict[str, Any], seed: int) -> None:
    """Guidance pairs stay whole (checked after every step), survivors are untouched, nothing is left behind."""
    chance = random.Random(seed)
    engine = small_engine(max_rows=chance.randint(2, 9), kv_positions=chance.randint(70, 200), **runner)
    tracks, aborted = drive_at_random(engine, VARIED, chance, aborted_share=0.4)
    for item in VARIED:
        track = tracks.get(item.request_id, Track())
        assert track.is_complete or item.request_id in aborted
        if track.is_complete:
            assert_same(track, item)
    assert_idle(engine)


def test_the_guidance_pair_joins_and_leaves_as_one() -> None:
    """Three rows are free: a pair fits, a second must wait for both its rows although one is free."""
    engine = small_engine(max_rows=3)
    first, second = request("first", frames=6), request("second", frames=6)
    engine.add(first)
    engine.add(second)
    seen = []
    while engine.has_work:
        engine.step()
        engine.check_integrity()
        seen.append(engine.stats().active_rows)
    assert set(seen) == {2, 0}


def test_a_long_line_is_served_in_order() -> None:
    items = [request(str(index), frames=3, seed=index) for index in range(30)]
    engine = small_engine(max_rows=4)
    tracks = drive(engine, {0: items})
    assert list(tracks) == [item.request_id for item in items], "the first chunks come in order of arrival"


def test_a_full_line_refuses_and_says_when_to_return() -> None:
    engine = small_engine(max_rows=2, max_queue=1)
    engine.add(request("runs", frames=10))
    engine.step()
    engine.add(request("waits", frames=10))
    with pytest.raises(EngineOverloadedError) as refusal:
        engine.add(request("refused", frames=10))
    assert refusal.value.retry_after_s == pytest.approx(12 * engine.stats().mean_step_s)
    assert engine.stats().refused == 1
    while engine.has_work:
        engine.step()
    engine.add(request("welcome", frames=10))
    assert engine.stats().finished == 2


@pytest.mark.parametrize(
    ("bad", "param"),
    [
        (GenerationRequest("r", "x", 600.001), "duration"),
        (GenerationRequest("r", "x", 1e9), "duration"),
        (GenerationRequest("r", "x", 0.0199), "duration"),
    ],
)
def test_a_duration_the_model_can_not_make_is_refused_at_the_door(bad: GenerationRequest, param: str) -> None:
    engine = small_engine()
    with pytest.raises(InvalidRequestError) as refusal:
        engine.add(bad)
    assert refusal.value.param == param
    assert_idle(engine)


def test_what_an_engine_is_too_small_for_is_refused_with_advice() -> None:
    with pytest.raises(InvalidRequestError, match="guidance 1"):
        small_engine(max_rows=1).add(request())
    with pytest.raises(InvalidRequestError, match="kv_positions"):
        small_engine(kv_positions=29).add(request(frames=12))
    small_engine(kv_positions=30).add(request(frames=12))


def test_an_id_in_use_is_refused_and_the_first_goes_on() -> None:
    engine = small_engine()
    engine.add(VARIED[0])
    with pytest.raises(InvalidRequestError, match="already in use"):
        engine.add(VARIED[0])
    assert_same(drive(engine, {})[VARIED[0].request_id], VARIED[0])


def test_engines_share_a_model_and_nothing_else() -> None:
    """Two engines on one loaded model, stepped in turn."""
    one, other = small_engine(), small_engine()
    assert one.model is small_model().config
    one.add(VARIED[0])
    other.add(VARIED[1])
    tracks: dict[str, Track] = {}
    while one.has_work or other.has_work:
        for engine in (one, other):
            if engine.has_work:
                collect(tracks, engine.step())
    assert_same(tracks[VARIED[0].request_id], VARIED[0])
    assert_same(tracks[VARIED[1].request_id], VARIED[1])
