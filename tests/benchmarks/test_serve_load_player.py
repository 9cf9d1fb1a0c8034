"""The virtual player against one that really plays, and against the definitions as they are written."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serve_load.player import VirtualPlayer

RATE = 16  # samples a second: sixteenths add up exactly, so that brute force and formula can be compared for equality
PIECES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), min_size=1, max_size=25)  # gap, samples
PREBUFFERS = st.integers(0, 48).map(lambda sixteenths: sixteenths / RATE)
Pieces = list[tuple[int, int]]


def played(pieces: Pieces, prebuffer_s: float, asked_at: float = 0.0, parts: bool = False) -> VirtualPlayer:
    player = VirtualPlayer(asked_at, sum(length for _, length in pieces), RATE, prebuffer_s)
    at = asked_at
    for gap, length in pieces:
        at += gap / RATE
        for samples in [1] * length if parts else [length]:
            player.receive(samples, at)
    return player


def stood_still(pieces: Pieces, prebuffer_s: float) -> float:
    """Brute force: a player with a buffer, moved from one arrival to the next."""
    total, came = sum(length for _, length in pieces) / RATE, 0.0
    buffered, is_playing, still_s = 0.0, False, 0.0
    for gap, length in ((gap / RATE, samples / RATE) for gap, samples in pieces):
        if is_playing:
            still_s += max(0.0, gap - buffered)
            buffered = max(0.0, buffered - gap)
        buffered, came = buffered + length, came + length
        is_playing = is_playing or came >= min(prebuffer_s, total)
    return still_s


@given(PIECES, PREBUFFERS)
def test_the_largest_lateness_is_the_time_stood_still(pieces: Pieces, prebuffer_s: float) -> None:
    assert played(pieces, prebuffer_s).stall_s == stood_still(pieces, prebuffer_s)


@given(PIECES, PREBUFFERS, st.integers(0, 1000))
def test_as_defined(pieces: Pieces, prebuffer_s: float, asked_at: int) -> None:
    """The formulas of the service levels, word for word, over all pieces at once."""
    a = [asked_at + at for at in accumulate(gap / RATE for gap, _ in pieces)]
    d = [length / RATE for _, length in pieces]
    sums = list(accumulate(d))
    k = next(i for i, have in enumerate(sums) if have >= min(0.25, sums[-1]))
    j = next(i for i, have in enumerate(sums) if have >= min(prebuffer_s, sums[-1]))
    lateness = [a[i] - (a[j] + sums[i - 1]) for i in range(j + 1, len(d))]

    player = played(pieces, prebuffer_s, asked_at)
    assert player.first_audio_s == a[k] - asked_at
    assert player.started_at == a[j]
    assert player.stall_s == max([0.0, *lateness])
    assert player.min_slack_s == (min(-late for late in lateness) if lateness else None)
    assert player.received_s == sums[-1]


@given(PIECES)
def test_smaller_pieces_of_the_same_moment_change_nothing_that_is_heard(pieces: Pieces) -> None:
    """TCP hands out what it likes: a piece sample by sample, all there at once, plays as the whole one does."""
    whole, split = played(pieces, 0.5), played(pieces, 0.5, parts=True)
    assert (split.stall_s, split.first_audio_s) == (whole.stall_s, whole.first_audio_s)


def test_a_stream_that_never_came() -> None:
    player = VirtualPlayer(5.0, 100, RATE)
    assert (player.first_audio_s, player.stall_s, player.min_slack_s) == (None, None, None)
    player.receive(3, 6.0)
    assert (player.first_audio_s, player.stall_s) == (None, None)


def test_a_track_shorter_than_the_buffer_plays_when_it_is_whole() -> None:
    player = VirtualPlayer(0.0, 2, RATE)
    player.receive(1, 1.0)
    assert player.first_audio_s is None
    player.receive(1, 2.0)
    assert (played([(32, 2)], 0.5).first_audio_s, player.received) == (2.0, 2)
    assert player.stall_s == 0.0
