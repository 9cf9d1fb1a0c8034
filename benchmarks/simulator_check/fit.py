"""From the engine's own log of a run to the simulator's profile of a replica."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import numpy as np

from autoscaling.simulator.replica import Profile
from benchmarks.simulator_check.observed import Track
from benchmarks.simulator_check.scenario import STREAMS

FIRST_AUDIO_S = 0.6
"""The first two pieces of a stream, of 0.2 and 0.4 s: less than 0.25 s does not count as first audio."""
_FRAME_S = 0.02
_MOST_OVERHEAD_S = 0.5
_ROUNDS = 8
_LEAST_FULL_S = 5.0


class FitError(ValueError):
    """The run says too little of the engine; the message says what is missing."""


def profile_of(tracks: Sequence[Track], cold_start_s: float, others: Sequence[Track] = ()) -> Profile:
    """Least squares over the tracks: each takes an overhead, and for each frame a step whose time grows with the
    streams beside it.

    Args:
        others: that kept them company and say nothing of the rates themselves.

    Raises:
        FitError: there are too few tracks, or none had company.
    """
    if len(tracks) < 10:
        raise FitError(f"{len(tracks)} tracks say nothing of the engine's rates: at least 10 are wanted")
    frames = np.array([track.audio_s / _FRAME_S for track in tracks])
    took = np.array([track.ended_at - track.began_at for track in tracks])
    spent = [_spent(track, [*tracks, *others]) for track in tracks]
    if len({max(each) for each in spent}) == 1 and len({min(each) for each in spent}) == 1:
        raise FitError("every track had the same company: the time of a step cannot be told from that of a stream")
    overhead_s, base_s, stream_s = 0.0, 1.0, 0.0
    for _ in range(_ROUNDS):
        beside = np.array([_company(each, base_s, stream_s) for each in spent])
        known = np.stack([np.ones_like(frames), frames, frames * beside], axis=1)
        weights = 1 / np.sqrt(frames)  # a longer track differs by more
        found = np.linalg.lstsq(known * weights[:, None], took * weights, rcond=None)[0]
        overhead_s, base_s, stream_s = (max(0.0, float(value)) for value in found)
    return Profile(
        STREAMS, base_s, stream_s, FIRST_AUDIO_S, min(overhead_s, _MOST_OVERHEAD_S), cold_start_s=cold_start_s, gpu=0.0
    )


def shared_rate(tracks: Sequence[Track]) -> float:
    """Audio-seconds per second that all replicas made together while two or more of them were full; infinite if they
    hardly ever were."""
    edges = sorted({at for track in tracks for at in (track.began_at, track.ended_at)})
    full_s = made_s = 0.0
    for begin, end in pairwise(edges):
        playing = [track for track in tracks if track.began_at <= begin and track.ended_at >= end]
        counts = Counter(track.replica for track in playing)
        if len(counts) > 1 and min(counts.values()) >= STREAMS:
            full_s += end - begin
            made_s += sum(track.audio_s * (end - begin) / (track.ended_at - track.began_at) for track in playing)
    return made_s / full_s if full_s >= _LEAST_FULL_S else math.inf


def beside_start(during: Sequence[Track], others: Sequence[Track], profile: Profile) -> float:
    """Of the rate of a replica that which is left while another one starts on the same cores.

    Args:
        during: tracks that were made meanwhile.
        others: all.
    """
    took = sum(track.ended_at - track.began_at for track in during)
    alone = 0.0
    for track in during:
        beside = _company(_spent(track, others), profile.base_s, profile.stream_s)
        alone += profile.overhead_s + track.audio_s / _FRAME_S * (profile.base_s + profile.stream_s * beside)
    return min(1.0, alone / took) if took else 1.0


def latency_s(heard_s: Sequence[float], profile: Profile) -> float:
    """Of the way to the replica and back: what requests that found it idle waited for their first audio, at the median,
    less what the replica needs.

    Args:
        heard_s: of those requests.
    """
    alone_s = profile.overhead_s + profile.first_audio_s / profile.rate(1)
    return max(0.0, median(heard_s) - alone_s)


def _spent(track: Track, others: Sequence[Track]) -> dict[int, float]:
    """Streams on its replica, itself among them → seconds of its making in which they were so many."""
    near = [each for each in others if each.replica == track.replica and _overlap(each, track) > 0]
    edges = {track.began_at, track.ended_at}
    for each in near:
        edges |= {min(max(at, track.began_at), track.ended_at) for at in (each.began_at, each.ended_at)}
    spent: dict[int, float] = {}
    for begin, end in pairwise(sorted(edges)):
        count = sum(each.began_at <= (begin + end) / 2 < each.ended_at for each in near)
        spent[count] = spent.get(count, 0.0) + end - begin
    return spent


def _company(spent: dict[int, float], base_s: float, stream_s: float) -> float:
    """The mean over its frames: where steps are faster, more of them are made in the same time."""
    frames = {count: seconds / (base_s + stream_s * count) for count, seconds in spent.items()}
    return sum(count * made for count, made in frames.items()) / sum(frames.values())


def _overlap(one: Track, other: Track) -> float:
    return min(one.ended_at, other.ended_at) - max(one.began_at, other.began_at)
