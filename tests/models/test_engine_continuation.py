"""Tracks that go on from known music: from codes, and window by window beyond what the model knows at a time."""

from __future__ import annotations

import atexit
import random
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.engine.engine import Engine
from models.engine.loader import LoadedModel, load_model
from models.engine_config import EngineConfig
from models.errors import GenerationFailedError, InvalidRequestError
from models.types import CodePrompt, GenerationRequest
from tests.factories import make_checkpoint
from tests.models.engine_support import Track, assert_idle, collect, drive, drive_at_random, request
from tests.models.reference import Reference

WINDOW = 40
"""Frames of a window: 0.8 s, so that three of them are soon made."""
STRIDE_S = 24.01 / 50
SEEDS = {"torch": 32, "kernel": 64}
"""Widths of two models: our kernel takes multiples of 64, any other is torch's."""
EITHER = pytest.mark.parametrize("decoder", SEEDS)
BOTH_CHANNELS = pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])


_FOLDERS = tempfile.TemporaryDirectory()  # an encoder is read when the first sound is to be encoded
atexit.register(_FOLDERS.cleanup)


@cache
def checkpoint(decoder: str, stereo: bool, graph: bool = False) -> tuple[LoadedModel, Reference]:
    width = SEEDS[decoder]
    path = Path(_FOLDERS.name) / f"{decoder} {stereo} {graph}"
    make_checkpoint(
        path, hidden=width, layers=2, heads=2, ffn=2 * width, stereo=stereo, vocab=64, ratios=(4, 2), filters=2
    )
    model = load_model(path, EngineConfig(num_threads=1, graph=graph))
    config = replace(model.config, max_duration_s=(WINDOW + 0.01) / 50)
    return replace(model, config=config), Reference(path)


def engine_of(decoder: str = "torch", stereo: bool = False, **config: Any) -> Engine:
    settings = EngineConfig(**{"return_codes": True, "num_threads": 1, "prefill_rows": 6, **config})
    return Engine(checkpoint(decoder, stereo, settings.graph)[0], settings)


def alone(item: GenerationRequest, decoder: str = "torch", stereo: bool = False, **config: Any) -> Track:
    track = drive(engine_of(decoder, stereo, **config), {0: [item]})[item.request_id]
    assert track.error is None
    return track


def codes_of(track: Track, stereo: bool = False) -> NDArray[np.int64]:
    return track.codes(8 if stereo else 4)


def random_codes(frames: int, codebooks: int = 4, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 64, (codebooks, frames))


def going_on(item: GenerationRequest, codes: NDArray[np.int64], name: str | None = None) -> GenerationRequest:
    prompt = CodePrompt(np.ascontiguousarray(codes).astype("<i8").tobytes(), len(codes))
    return replace(item, continues=prompt, request_id=name or item.request_id, extend_stride_s=STRIDE_S)


def long(item: GenerationRequest) -> GenerationRequest:
    return replace(item, extend_stride_s=STRIDE_S)


# --------------------------------------------------------------------------------------------- the same as a reference


@EITHER
@BOTH_CHANNELS
@pytest.mark.parametrize(
    ("prompt", "guidance", "known", "frames"),
    [
        ("calm piano", 3.0, 13, 30),
        ("calm piano", 1.0, 1, 12),
        ("", 3.0, 29, 30),
        ("fast techno", 3.0, 7, 95),  # three windows
        ("calm piano", 2.0, 0, 70),
        ("calm piano", 2.0, WINDOW, 60),  # nothing of the first window is to be made
    ],
    ids=["guided", "one frame", "all but one", "continued and long", "long", "a window known"],
)
def test_greedy_tokens_are_the_references(
    decoder: str, stereo: bool, prompt: str, guidance: float, known: int, frames: int
) -> None:
    theirs, codes = checkpoint(decoder, stereo)[1], random_codes(known, 8 if stereo else 4, seed=known)
    if known == WINDOW:  # audiocraft refuses this; it is the second window of its loop
        tail = theirs.window(prompt, torch.from_numpy(codes[:, 24:]), frames - 24, guidance)
        wanted = torch.cat([torch.from_numpy(codes[:, :24]), tail], dim=1)
    else:
        wanted = theirs.track(prompt, torch.from_numpy(codes), frames, guidance, longest=WINDOW, stride=24)
    item = long(request("r", prompt, frames, greedy=True, guidance=guidance))
    track = alone(going_on(item, codes) if known else item, decoder, stereo)
    np.testing.assert_array_equal(codes_of(track, stereo), wanted.numpy())


@BOTH_CHANNELS
def test_the_whole_is_one_sound(stereo: bool) -> None:
    """What is known, and every window, go through one codec state: chunk by chunk it is the whole's decode."""
    item = going_on(request("r", frames=95, seed=4), random_codes(17, 8 if stereo else 4))
    track = alone(item, stereo=stereo)
    codes = torch.from_numpy(codes_of(track, stereo).copy())
    codec = checkpoint("torch", stereo)[0].codec
    channels = [codec.decode(codes[channel :: 1 + stereo][None])[0, 0] for channel in range(1 + stereo)]
    np.testing.assert_allclose(track.pcm, torch.stack(channels, -1).clamp(-1, 1).numpy(), atol=1e-5, rtol=0)
    assert [chunk.index for chunk in track.chunks] == list(range(len(track.chunks)))
    assert len(track.chunks) > 3


# ----------------------------------------------------------------------------------------------- going on as it was


@EITHER
@pytest.mark.parametrize("known", [1, 2, 3, 11, 24, 39, 40])
def test_going_on_from_its_own_beginning_is_the_same_track(decoder: str, known: int) -> None:
    """Cancelled anywhere in a window a track can go on from its codes: the seed draws what it would have drawn."""
    item = long(request("r", frames=95, seed=11, top_k=20))
    whole = codes_of(alone(item, decoder))
    track = alone(going_on(item, whole[:, :known]), decoder)
    np.testing.assert_array_equal(codes_of(track), whole)


def test_a_mono_beginning_is_taken_for_both_channels() -> None:
    codes = random_codes(9)
    track = alone(going_on(request("r", frames=20), codes), stereo=True)
    made = codes_of(track, stereo=True)
    np.testing.assert_array_equal(made[0::2, :9], codes)
    np.testing.assert_array_equal(made[1::2, :9], codes)


def test_what_it_goes_on_from_matters() -> None:
    item = request("r", frames=20, seed=3)
    made = {codes_of(alone(going_on(item, random_codes(9, seed=seed))))[:, 9:].tobytes() for seed in range(4)}
    assert len(made) == 4


def test_windows_draw_numbers_of_their_own() -> None:
    """With the same numbers in each window a track would tend to repeat itself."""
    from models.engine.random_numbers import window_seed

    assert window_seed(7, 0) == 7
    drawn = {window_seed(seed, start) for seed in (0, 7, 2**63 - 1) for start in (0, 24, 48, 900, 1800)}
    assert len(drawn) == 15
    assert all(-(2**63) <= each < 2**63 for each in drawn)


# ----------------------------------------------------------------------------------------------- in a crowded batch

CROWD = [
    request("text", frames=14, seed=1),
    going_on(request("continued", "soft strings", frames=31, seed=2), random_codes(19, seed=2)),
    long(request("long", "fast techno", frames=90, seed=3, top_p=0.9)),
    request("greedy", "ukulele", frames=17, greedy=True),
    going_on(request("unguided", "slow jazz", frames=60, seed=4, guidance=1.0), random_codes(33, seed=3)),
    going_on(request("no prompt", "", frames=25, seed=5), random_codes(2, seed=4)),
    replace(going_on(request("unheard", frames=58, seed=6), random_codes(40, seed=5)), live=False),
]


@cache
def solo(item: GenerationRequest, decoder: str) -> Track:
    return alone(item, decoder)


def assert_same(track: Track, item: GenerationRequest, decoder: str = "torch") -> None:
    wanted = solo(item, decoder)
    assert track.error is None
    np.testing.assert_array_equal(codes_of(track), codes_of(wanted), item.request_id)
    assert [chunk.first_sample for chunk in track.chunks] == [chunk.first_sample for chunk in wanted.chunks]
    np.testing.assert_allclose(track.pcm, wanted.pcm, atol=1e-5, rtol=0)


@EITHER
@settings(max_examples=5, deadline=None)
@given(
    steps=st.lists(st.integers(0, 40), min_size=len(CROWD), max_size=len(CROWD)),
    max_rows=st.sampled_from([2, 5, 16]),
    prefill_rows=st.sampled_from([2, 6, 40]),
)
def test_the_same_tokens_in_any_crowd(decoder: str, steps: list[int], max_rows: int, prefill_rows: int) -> None:
    engine = engine_of(decoder, max_rows=max_rows, prefill_rows=prefill_rows)
    free = engine.stats().free_kv_positions  # the kernel's arena is rounded up to blocks
    arrivals: dict[int, list[GenerationRequest]] = {}
    for step, item in zip(steps, CROWD, strict=True):
        arrivals.setdefault(step, []).append(item)
    tracks = drive(engine, arrivals)
    for item in CROWD:
        assert_same(tracks[item.request_id], item, decoder)
    engine.check_integrity()
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.outstanding_row_steps, stats.free_kv_positions) == (0, 0, 0, free)


@pytest.mark.parametrize("run_ahead", [0, 2])
@pytest.mark.parametrize("max_rows", [3, 16])
def test_captured_steps_make_the_same(run_ahead: int, max_rows: int) -> None:
    """Known music between steps that are started ahead; here on a CPU, uncaptured."""
    engine = engine_of(graph=True, run_ahead=run_ahead, max_rows=max_rows, prefill_rows=5)
    tracks = drive(engine, {0: CROWD[:3], 7: CROWD[3:]})
    for item in CROWD:
        assert_same(tracks[item.request_id], item)
    assert_idle(engine)


def test_captured_steps_of_two_channels() -> None:
    item = going_on(request("r", frames=70, seed=4), random_codes(21, 8))
    made = alone(item, stereo=True, graph=True, run_ahead=1)
    np.testing.assert_array_equal(codes_of(made, stereo=True), codes_of(alone(item, stereo=True), stereo=True))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_cancelled_at_any_step_leaves_no_trace(seed: int) -> None:
    """While known music is worked through, between windows, or later."""
    chance = random.Random(seed)
    engine = engine_of(max_rows=chance.randint(3, 8), kv_positions=chance.randint(90, 200))
    tracks, aborted = drive_at_random(engine, CROWD, chance, aborted_share=0.5)
    for item in CROWD:
        track = tracks.get(item.request_id, Track())
        assert track.is_complete or item.request_id in aborted
        if track.is_complete:
            assert_same(track, item)
    assert_idle(engine)


def test_nobody_waits_while_known_music_is_worked_through() -> None:
    """A step fills so many rows and no more, and everybody else samples in it."""
    engine = engine_of(prefill_rows=4, max_rows=8, first_chunk_s=0.02, max_chunk_s=0.02)
    witness, late = request("witness", frames=38, seed=1), going_on(request("late", frames=40), random_codes(36))
    plain = drive(engine_of(first_chunk_s=0.02, max_chunk_s=0.02), {0: [witness]})["witness"]
    engine.add(witness)
    tracks: dict[str, Track] = {}
    steps = {"witness": 0}
    before = engine.stats().row_steps
    while "witness" not in tracks or not tracks["witness"].is_complete:
        if steps["witness"] == 2:
            engine.add(late)
        collect(tracks, engine.step())
        steps["witness"] += 1
        made, before = engine.stats().row_steps - before, engine.stats().row_steps
        assert made <= 2 + 4, "the witness's pair, and the rows that are filled"
    assert steps["witness"] == 41, "not a step more than alone"
    np.testing.assert_array_equal(codes_of(tracks["witness"]), codes_of(plain))


def test_known_music_is_heard_while_it_is_worked_through() -> None:
    """Its sound needs no sampling: it comes at once, in pieces no longer than any other's."""
    engine = engine_of(prefill_rows=2, first_chunk_s=0.1, max_chunk_s=0.2)
    item = going_on(request("r", frames=40), random_codes(36))
    engine.add(item)
    tracks: dict[str, Track] = {}
    for _ in range(6):
        collect(tracks, engine.step())
    assert engine.stats().row_steps == 6 * 2, "one position of either row a step"
    sounded = sum(chunk.num_samples for chunk in tracks["r"].chunks) // 8
    assert sounded >= 25
    assert max(chunk.num_samples for chunk in tracks["r"].chunks) <= 8 * 12


@pytest.mark.parametrize("graph", [False, True], ids=["ordinary", "captured"])
def test_a_track_that_is_made_before_its_sound_waits_for_it(graph: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known music becomes sound so many frames a step; nothing is computed meanwhile, for nobody."""
    monkeypatch.setattr("models.engine.sequence.KNOWN_FRAMES_PER_TURN", 2)
    engine, item = engine_of(prefill_rows=80, graph=graph), going_on(request("r", frames=40), random_codes(38))
    track = drive(engine, {0: [item]})["r"]
    assert engine.stats().row_steps == 2 * (38 + 2 + 3)
    monkeypatch.undo()
    np.testing.assert_array_equal(codes_of(track), codes_of(alone(item)))
    np.testing.assert_allclose(track.pcm, alone(item).pcm, atol=1e-5, rtol=0)
    assert_idle(engine)


def test_a_window_that_can_not_be_begun_fails_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of()
    plain, broken = request("plain", frames=39, seed=9), long(request("broken", frames=60))

    def fail(_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(engine._cache, "rewind", fail)
    tracks = drive(engine, {0: [broken], 30: [plain]})
    assert isinstance(tracks["broken"].error, GenerationFailedError)
    assert "window 2" in str(tracks["broken"].error)
    np.testing.assert_array_equal(codes_of(tracks["plain"]), codes_of(alone(plain)))
    assert_idle(engine)


# ------------------------------------------------------------------------------------------------------ at the door


def refused(item: GenerationRequest, stereo: bool = False, **config: Any) -> InvalidRequestError:
    engine = engine_of(stereo=stereo, **config)
    with pytest.raises(InvalidRequestError) as refusal:
        engine.add(item)
    assert_idle(engine)
    return refusal.value


def test_what_a_model_can_not_go_on_from_is_refused_and_says_why() -> None:
    item = request("r", frames=60)
    cases = [
        (going_on(item, random_codes(41)), False, "continue", "at most 0.8"),
        (going_on(request("r", frames=20), random_codes(20)), False, "duration", "ask for more"),
        (going_on(item, np.full((4, 9), 64)), False, "continue", "another model"),
        (going_on(item, np.full((4, 9), -1)), False, "continue", "another model"),
        (going_on(item, random_codes(9, 3)), False, "continue", "3 codebooks, this model has 4"),
        (going_on(item, random_codes(9, 8)), False, "continue", "8 codebooks, this model has 4"),
        (going_on(item, random_codes(9, 2)), True, "continue", "codebooks, this model has 8"),
        (replace(item, extend_stride_s=0.8), False, "extend_stride", "below 0.8"),
        (replace(item, extend_stride_s=0.01), False, "extend_stride", "at least 0.02"),
        (request("r", frames=30_001), False, "duration", "at most 600"),
    ]
    for bad, stereo, param, message in cases:
        refusal = refused(bad, stereo)
        assert (refusal.param, message in str(refusal)) == (param, True), refusal
    assert "at most 1" in str(refused(item, longest_s=1.0))


@pytest.mark.parametrize(
    ("codes", "codebooks"), [(b"", 4), (b"\0" * 31, 4), (b"\0" * 40, 4), (b"\0" * 32, 0), (b"\0" * 32, True)]
)
def test_bytes_that_are_no_codes_are_refused(codes: bytes, codebooks: int) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        CodePrompt(codes, codebooks)
    assert refusal.value.param == "continue"


def test_an_extension_goes_forward() -> None:
    for stride in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidRequestError) as refusal:
            GenerationRequest("r", "x", 60.0, extend_stride_s=stride)
        assert refusal.value.param == "extend_stride"


@pytest.mark.parametrize(
    ("name", "value"), [("prefill_rows", 1), ("prefill_rows", 2.5), ("longest_s", 0), ("longest_s", float("inf"))]
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        EngineConfig(**{name: value})  # type: ignore[arg-type]
