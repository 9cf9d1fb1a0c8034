"""A request on its way: what its answers say of it, and the listener that plays its stream."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.serve_load.audio import PcmCheck
from benchmarks.serve_load.outcome import Outcome, result_of
from benchmarks.serve_load.plan import Planned
from benchmarks.serve_load.player import VirtualPlayer
from benchmarks.serve_load.wire import Body, Connection

SLOWNESS = 2.0  # a slow reader takes so many times as long to read a piece as it takes to play
_ENDED = {"succeeded": "", "expired": "generation_expired", "cancelled": "cancelled_by_the_server"}


@dataclass(slots=True)
class Course:
    """A request on its way, and what is known of it so far."""

    outcome: Outcome
    intended: float
    key: str | None
    headers: dict[str, str] = field(default_factory=dict)
    generation_id: str | None = None
    status: int = 0

    @property
    def planned(self) -> Planned:
        return self.outcome.planned

    def take_status(self, answer: Body) -> bool:
        """Of the answer to a creation; False: it was refused."""
        self.status = answer.status
        try:
            found = answer.json()
            if answer.status < 400:
                self.generation_id = str(found["id"])
                return True
            code = str(found["error"]["code"])
        except (ValueError, KeyError, TypeError):
            code = "bad_answer"
        self.outcome.result, self.outcome.code = result_of(answer.status, code), code
        return False

    def take_state(self, answer: Body) -> bool:
        """Of a look at a job; False: it goes on."""
        try:
            found = answer.json()
            if answer.status >= 400:
                self.outcome.code = str(found["error"]["code"])
                return True
            state = found["state"]
            if state in {"queued", "running", "cancelling"}:
                return False
            self.outcome.code = _ENDED[state] if state in _ENDED else str(found["error"]["code"])
            if state == "succeeded":
                self.outcome.result = "completed"
                self.outcome.audio_s = sum(float(track["duration"]) for track in found["tracks"])
        except (ValueError, KeyError, TypeError):
            self.outcome.code = "bad_answer"
        return True


class Listener:
    """Plays a stream.

    Args:
        only_head: leaves as soon as it knows which generation it was given.
    """

    def __init__(self, course: Course, connection: Connection, *, only_head: bool) -> None:
        self._course = course
        self._connection = connection
        self._only_head = only_head
        self._player: VirtualPlayer | None = None
        self._check: PcmCheck | None = None
        self._refusal: Body | None = None
        self._leaves_after_s = _leaves_after_s(course.planned)
        self.has_left = False

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self._course.status = status
        if status != 200:
            self._refusal = Body()
            self._refusal.head(status, headers)
            return
        self._course.generation_id = headers[b"x-generation-id"].decode()
        rate, channels = int(headers[b"x-sample-rate"]), int(headers[b"x-channels"])
        total = round(float(headers[b"x-audio-duration"]) * rate)
        self._player = VirtualPlayer(self._course.intended, total, rate)
        self._check = PcmCheck(channels, total)
        if self._only_head:
            self._leave()

    def data(self, data: bytes, at: float) -> None:
        if self._refusal is not None:
            self._refusal.data(data, at)
            return
        if self._player is None or self._check is None or self.has_left:
            return
        samples = self._check.take(data)
        self._player.receive(samples, at)
        self._course.outcome.took_s = at - self._course.intended
        if self._player.received_s >= self._leaves_after_s:
            self._leave()
        elif self._course.planned.fault == "slow":
            self._connection.pause(SLOWNESS * samples / self._player.sample_rate)

    def _leave(self) -> None:
        self.has_left = True
        self._connection.abort()

    def settle(self) -> None:
        """The stream has ended, one way or another: what is known of it."""
        outcome = self._course.outcome
        if self._refusal is not None:
            self._course.take_status(self._refusal)
            outcome.took_s = 0.0
            return
        if self._player is None or self._check is None:
            return
        player = self._player
        outcome.first_audio_s, outcome.stall_s = player.first_audio_s, player.stall_s
        outcome.min_slack_s, outcome.audio_s = player.min_slack_s, player.received_s
        if self.has_left:
            outcome.result = "cancelled"
        elif self._check.samples == player.total_samples:
            outcome.result, outcome.is_valid = "completed", self._check.is_valid
        else:
            outcome.result, outcome.code = "failed", "truncated"


def _leaves_after_s(planned: Planned) -> float:
    """Seconds of audio after which a client that disconnects has heard enough: from a tenth to nine of them."""
    return (0.1 + 0.8 * planned.turn) * planned.duration_s if planned.fault == "disconnect" else float("inf")
