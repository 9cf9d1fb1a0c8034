"""The listener that stands for a person: plays what has come, and stands still when nothing is left to play.

Definitions are those of the service levels. This is the client's own measure, and shares no code with the server's:
where the two differ, one of them is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_AUDIO_S = 0.25
"""Less than this is not music yet: a header, or a click."""
PREBUFFER_S = 0.5


@dataclass(slots=True)
class VirtualPlayer:
    """Fed with pieces of audio as they come; keeps a handful of numbers, however long the stream is.

    It begins to play at T0, when ``prebuffer_s`` (or all of a shorter track) is there. A piece that comes after the
    audio before it should have ended, at T0 + what came before, is late by so much, and since a player that stood still
    goes on later by as much, the largest lateness is all of the time for which it stood still.

    Args:
        asked_at: when the audio was asked for; by the clock of ``receive``.
        total_samples: of the whole track, per channel. Samples are counted, not seconds: they add up exactly.
        sample_rate: Hz.
        prebuffer_s: audio to have before playing.

    Attributes:
        received: samples that have come.
        first_audio_at: when 0.25 s of audio (or all of a shorter track) had come.
        started_at: when it began to play.
        min_slack_s: the least audio that was in hand when a piece came; below 0 it stood still. None: no piece came
            after the start.
    """

    asked_at: float
    total_samples: int
    sample_rate: int
    prebuffer_s: float = PREBUFFER_S
    received: int = 0
    first_audio_at: float | None = None
    started_at: float | None = None
    min_slack_s: float | None = None

    def receive(self, samples: int, at: float) -> None:
        """A piece of so many samples has come.

        Args:
            at: not before the last one's.
        """
        if self.started_at is not None:
            slack_s = self.started_at + self.received / self.sample_rate - at
            self.min_slack_s = slack_s if self.min_slack_s is None else min(self.min_slack_s, slack_s)
        self.received += samples
        if self.first_audio_at is None and self._has(FIRST_AUDIO_S):
            self.first_audio_at = at
        if self.started_at is None and self._has(self.prebuffer_s):
            self.started_at = at

    def _has(self, seconds: float) -> bool:
        """So much, or all there is."""
        return self.received >= min(seconds * self.sample_rate, self.total_samples)

    @property
    def received_s(self) -> float:
        """Seconds of audio that have come."""
        return self.received / self.sample_rate

    @property
    def first_audio_s(self) -> float | None:
        """Time to first audio; None: it never came."""
        return None if self.first_audio_at is None else self.first_audio_at - self.asked_at

    @property
    def stall_s(self) -> float | None:
        """For how long it stood still, all in all; None: it never began."""
        if self.started_at is None:
            return None
        return max(0.0, -self.min_slack_s) if self.min_slack_s is not None else 0.0
