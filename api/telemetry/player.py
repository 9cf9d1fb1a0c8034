"""A player that nobody hears: when the music would have begun, and whether it would have gone on, for each stream.

Chunks i = 1..n are flushed at times a_i with d_i of audio, D_i = d_1 + … + d_i. Playing begins at T0 = a_j, j the first
with D_j ≥ min(P, D_n) for a prebuffer P. Chunk i > j is late by L_i = a_i − (T0 + D_{i−1}). The stall is
max(0, max L_i): a player that waits once for so long, at its beginning, never waits again. −max L_i is the slack. Time
to first audio is a_k − a_0, k the first with D_k ≥ 0.25 s. All of it takes O(1) per chunk and O(1) memory.
"""

from __future__ import annotations

FIRST_AUDIO_S = 0.25
PREBUFFER_S = 0.5


class VirtualPlayer:
    """One listener's. Times are seconds of one clock that never goes back.

    Args:
        asked_at: when the request came.
        sample_rate: Hz.
        total_samples: of the whole track, per channel.
        prebuffer_s: seconds of audio that the listener gathers before it plays.

    Attributes:
        samples: flushed so far, per channel.
        first_audio_s: seconds until 0.25 s of audio (or all of it, if it is shorter) were flushed; None: they were not.
        playing_since: T0; None: it has not begun.
        stall_s: seconds for which it stood still.
        min_slack_s: the least that it had in hand; None: nothing came after it had begun.
        underruns: how often it ran dry.
    """

    __slots__ = (
        "_asked_at", "_enough", "_first", "_sample_rate", "_total",
        "first_audio_s", "min_slack_s", "playing_since", "samples", "stall_s", "underruns",
    )  # fmt: skip

    def __init__(self, asked_at: float, sample_rate: int, total_samples: int, prebuffer_s: float = PREBUFFER_S) -> None:
        self._asked_at = asked_at
        self._sample_rate = sample_rate
        self._total = total_samples
        self._first = min(FIRST_AUDIO_S * sample_rate, total_samples)
        self._enough = min(prebuffer_s * sample_rate, total_samples)
        self.samples = 0
        self.first_audio_s: float | None = None
        self.playing_since: float | None = None
        self.stall_s = 0.0
        self.min_slack_s: float | None = None
        self.underruns = 0

    @property
    def audio_s(self) -> float:
        """Seconds of audio flushed so far."""
        return self.samples / self._sample_rate

    def flush(self, at: float, num_samples: int) -> None:
        """A chunk with so many samples (per channel, at least one) was flushed."""
        if self.playing_since is not None:
            self._late(at - self.playing_since - self.audio_s)
        self.samples += num_samples
        if self.first_audio_s is None and self.samples >= self._first:
            self.first_audio_s = at - self._asked_at
        if self.playing_since is None and self.samples >= self._enough:
            self.playing_since = at

    def leave(self, at: float) -> None:
        """No more chunks come. Before the end of the track, the listener has waited for the next one until now."""
        if self.playing_since is not None and self.samples < self._total:
            late_s = at - self.playing_since - self.audio_s
            if late_s > 0:
                self._late(late_s)

    def _late(self, late_s: float) -> None:
        if late_s > self.stall_s:
            self.stall_s = late_s
            self.underruns += 1
        if self.min_slack_s is None or -late_s < self.min_slack_s:
            self.min_slack_s = -late_s


class FlushTimes:
    """When each chunk would have been flushed to a client that takes everything at once.

    A client that reads slowly holds up the chunks behind: that is its own doing, and no stall of the service. What it
    has held up is taken off, but never more than the chunk has been here: what came late is late for everybody.
    """

    __slots__ = ("_lag_s",)

    def __init__(self) -> None:
        self._lag_s = 0.0

    def of(self, at: float, here_since: float) -> float:
        """
        Args:
            at: when the chunk was handed to the server.
            here_since: when it came into this process; 0: long ago.
        """
        self._lag_s = min(self._lag_s, max(0.0, at - here_since))
        return at - self._lag_s

    def held_up(self, seconds: float) -> None:
        """The client took so long to take the last one."""
        self._lag_s += seconds
