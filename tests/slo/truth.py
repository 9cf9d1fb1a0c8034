"""What the clients saw, judged by what was promised: the truth that every figure of the platform is held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.serve_load.outcome import Outcome, Result

OUTCOMES: Mapping[Result, str] = {
    "completed": "completed",
    "failed": "failed",
    "timeout": "timeout",
    "cancelled": "cancelled",
    "refused": "rejected_capacity",
    "rate_limited": "rejected_rate_limit",
    "invalid": "rejected_invalid",
}
"""The client's word for how a request ended → the platform's, in the label ``outcome``."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as its client saw it. Seconds from its sending; ``ended_at`` is Unix time.

    Attributes:
        mode: stream, async.
        first_audio_s, stall_s: None: it did not come to that, or nobody listened.
    """

    tier: str
    mode: str
    result: Result
    ended_at: float
    took_s: float
    audio_s: float
    first_audio_s: float | None = None
    stall_s: float | None = None

    @classmethod
    def of(cls, outcome: Outcome, ended_at: float) -> Heard:
        planned, first = outcome.planned, outcome.first_audio_s
        return cls(
            tier=planned.tier,
            mode="stream" if planned.mode == "stream" else "async",
            result=outcome.result,
            ended_at=ended_at,
            took_s=outcome.took_s - outcome.lag_s,
            audio_s=planned.duration_s,
            first_audio_s=None if first is None else first - outcome.lag_s,
            stall_s=outcome.stall_s,
        )


@dataclass(frozen=True, slots=True)
class Promise:
    """Of one service level to one tier.

    Attributes:
        threshold_s: a time up to which a request is good; of a deadline: of a job without music.
        per_audio_s: of a deadline: so much more per second of audio.
    """

    sli: str
    tier: str
    threshold_s: float = 0.0
    per_audio_s: float = 0.0

    def verdict(self, heard: Heard) -> bool | None:
        """Good, bad, or None: it says nothing of this promise."""
        if heard.tier != self.tier or heard.result in ("invalid", "rate_limited"):
            return None
        if self.sli == "admission":
            return heard.result != "refused"
        if heard.result == "refused":
            return None
        judged: bool | None = {
            "success": _success,
            "ttfa": self._first_audio,
            "continuity": self._continuity,
            "deadline": self._deadline,
        }[self.sli](heard)
        return judged

    def _first_audio(self, heard: Heard) -> bool | None:
        if heard.mode != "stream":
            return None
        if heard.first_audio_s is None:
            return False if heard.took_s > self.threshold_s else None
        return heard.first_audio_s <= self.threshold_s

    def _continuity(self, heard: Heard) -> bool | None:
        return None if heard.mode != "stream" or heard.stall_s is None else heard.stall_s <= self.threshold_s

    def _deadline(self, heard: Heard) -> bool | None:
        if heard.mode == "stream" or heard.result == "cancelled":
            return None
        in_time = heard.took_s <= self.threshold_s + self.per_audio_s * heard.audio_s
        return in_time if heard.result == "completed" else (None if in_time else False)


def _success(heard: Heard) -> bool | None:
    return None if heard.result == "cancelled" else heard.result == "completed"


@dataclass(frozen=True, slots=True)
class Event:
    """One count of ``tutti_sli_events_total``."""

    at: float
    is_bad: bool


def events(promise: Promise, all_heard: Iterable[Heard]) -> list[Event]:
    """In the order in which they were counted."""
    judged = ((heard.ended_at, promise.verdict(heard)) for heard in all_heard)
    return sorted((Event(at, not good) for at, good in judged if good is not None), key=lambda event: event.at)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in which an alert fires. Unix seconds."""

    start: float
    end: float

    def near(self, other: Span, slack_s: float) -> bool:
        return self.start - slack_s <= other.end and other.start - slack_s <= self.end


@dataclass(frozen=True, slots=True)
class Burn:
    """A burn alert, in real seconds: both windows burn, and enough requests were hurt in the long one."""

    limit: float
    long_s: float
    short_s: float
    minimum_bad: int

    def holds(self, seen: Iterable[Event], at: float) -> bool:
        mine = [event for event in seen if at - self.long_s < event.at <= at]
        late = [event for event in mine if event.at > at - self.short_s]
        bad = sum(event.is_bad for event in mine)
        return (
            bad >= self.minimum_bad
            and bool(late)
            and bad / len(mine) > self.limit
            and sum(event.is_bad for event in late) / len(late) > self.limit
        )

    def spans(self, seen: list[Event], start: float, end: float, every_s: float) -> list[Span]:
        """When it should have fired, looked at every so often."""
        return list(stretches(_looks(start, end, every_s), lambda at: self.holds(seen, at), every_s))


def _looks(start: float, end: float, every_s: float) -> Iterator[float]:
    for number in range(int((end - start) / every_s) + 1):
        yield start + number * every_s


def stretches(times: Iterable[float], holds: object, every_s: float) -> Iterator[Span]:
    """The stretches of times at which something holds; a single gap is none."""
    assert callable(holds)
    first = last = None
    for at in times:
        if not holds(at):
            continue
        if first is None or last is None or at - last > 2.5 * every_s:
            if first is not None and last is not None:
                yield Span(first, last)
            first = at
        last = at
    if first is not None and last is not None:
        yield Span(first, last)
