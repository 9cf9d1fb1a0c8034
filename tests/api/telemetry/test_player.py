"""The virtual player against one that keeps every chunk and plays them one after the other."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.telemetry.player import FlushTimes, VirtualPlayer

RATE = 1000
# Times on a grid of 1/1024 s are exact in floating point, so equality can be asked for.
ticks = st.integers(min_value=0, max_value=4096).map(lambda tick: tick / 1024)
chunks = st.lists(st.tuples(ticks, st.integers(min_value=1, max_value=900)), min_size=1, max_size=30)
prebuffers = st.sampled_from([0.0, 0.25, 0.5, 2.0])


def played(flushed: list[tuple[float, int]], prebuffer_s: float, asked_at: float = 0.0) -> VirtualPlayer:
    player = VirtualPlayer(asked_at, RATE, sum(samples for _, samples in flushed), prebuffer_s)
    for at, samples in flushed:
        player.flush(at, samples)
    return player


def stalled_s(flushed: list[tuple[float, int]], prebuffer_s: float) -> float:
    """Plays sample by sample: a chunk begins when the one before has been played and it is there."""
    total = sum(samples for _, samples in flushed)
    have, begun, ready_at, waited = 0, False, 0.0, 0.0
    for at, samples in flushed:
        if begun and at > ready_at:
            waited, ready_at = waited + at - ready_at, at
        if begun:
            ready_at += samples / RATE
        have += samples
        if not begun and have >= min(prebuffer_s * RATE, total):
            begun, ready_at = True, at + have / RATE
    return waited


def first_audio_s(flushed: list[tuple[float, int]]) -> float | None:
    sums = accumulate(samples for _, samples in flushed)
    needed = min(0.25 * RATE, sum(samples for _, samples in flushed))
    return next((at for (at, _), have in zip(flushed, sums, strict=True) if have >= needed), None)


@given(chunks, prebuffers)
def test_it_agrees_with_a_player_that_plays(gaps: list[tuple[float, int]], prebuffer_s: float) -> None:
    times = accumulate(gap for gap, _ in gaps)
    flushed = [(at, samples) for at, (_, samples) in zip(times, gaps, strict=True)]
    player = played(flushed, prebuffer_s)
    assert player.stall_s == pytest.approx(stalled_s(flushed, prebuffer_s), abs=1e-9)
    assert player.first_audio_s == first_audio_s(flushed)
    assert player.playing_since is not None
    assert (player.underruns > 0) == (player.stall_s > 0)


def lateness(flushed: list[tuple[float, int]], prebuffer_s: float) -> list[float]:
    """L_i for i > j, as the definition has them."""
    have = [0, *accumulate(samples for _, samples in flushed)]
    first = next(i for i in range(len(flushed)) if have[i + 1] >= min(prebuffer_s * RATE, have[-1]))
    begun_at = flushed[first][0]
    return [at - (begun_at + have[i] / RATE) for i, (at, _) in enumerate(flushed) if i > first]


@given(chunks, prebuffers)
def test_it_agrees_with_the_definition(gaps: list[tuple[float, int]], prebuffer_s: float) -> None:
    times = accumulate(gap for gap, _ in gaps)
    flushed = [(at, samples) for at, (_, samples) in zip(times, gaps, strict=True)]
    late, player = lateness(flushed, prebuffer_s), played(flushed, prebuffer_s)
    assert player.stall_s == pytest.approx(max([0.0, *late]), abs=1e-9)
    assert player.min_slack_s == (pytest.approx(-max(late), abs=1e-9) if late else None)


def test_headers_and_little_audio_are_no_first_audio() -> None:
    player = VirtualPlayer(10.0, RATE, 10_000)
    player.flush(10.5, 249)
    assert player.first_audio_s is None
    player.flush(11.0, 1)
    assert player.first_audio_s == 1.0


def test_a_track_shorter_than_the_prebuffer_plays_when_it_is_whole() -> None:
    player = played([(1.0, 100), (3.0, 100)], prebuffer_s=0.5)
    assert (player.playing_since, player.first_audio_s, player.stall_s, player.min_slack_s) == (3.0, 3.0, 0.0, None)


def test_each_time_it_runs_dry_is_one_underrun() -> None:
    # 0.5 s in hand at 0; late by 0.5 at 1.0, by 0.25 more at 2.25; in time in between.
    player = played([(0.0, 500), (1.0, 500), (1.5, 500), (2.25, 500), (2.25, 500)], prebuffer_s=0.5)
    assert (player.underruns, player.stall_s, player.min_slack_s) == (2, 0.75, -0.75)


def test_a_listener_that_leaves_while_it_waits_has_stalled() -> None:
    player = VirtualPlayer(0.0, RATE, 10_000)
    player.flush(0.0, 1000)
    player.leave(0.5)
    assert player.stall_s == 0.0
    player.leave(4.0)
    assert player.stall_s == 3.0


def test_a_listener_that_has_it_all_waits_for_nothing() -> None:
    player = played([(0.0, 1000)], prebuffer_s=0.5)
    player.leave(100.0)
    assert (player.stall_s, player.underruns) == (0.0, 0)


def test_what_a_slow_client_holds_up_is_its_own() -> None:
    times = FlushTimes()
    assert times.of(1.0, here_since=1.0) == 1.0
    times.held_up(5.0)  # the client took the first one for 5 s; meanwhile the second came
    assert times.of(6.0, here_since=1.2) == pytest.approx(1.2)
    times.held_up(2.0)
    assert times.of(8.0, here_since=1.4) == pytest.approx(1.4)
    times.held_up(1.0)
    assert times.of(20.0, here_since=20.0) == 20.0  # this one came late, whoever listens


def test_a_piece_that_was_here_for_ever_is_late_by_nothing_but_the_client() -> None:
    times = FlushTimes()
    times.held_up(3.0)
    assert times.of(10.0, here_since=0.0) == 7.0
