"""When one request went through the stages of the engine: written by the stepping thread, for whoever asked."""

from __future__ import annotations

from dataclasses import dataclass

from models.engine.sequence import Row
from models.engine.stats import StatsCollector
from models.engine.step import StepPlan, StepResult


@dataclass(slots=True)
class StageTimes:
    """Hand one in with a request and read it when its stream has ended, however that was. None: it did not get so far.

    Steps are shared: a stage is what the request waited for, not what it would have taken alone.

    Attributes:
        added_at: when it came into the line; seconds of the engine's clock, as all of these.
        joined_at: when its first step began, with the encoding of its text.
        encoded_at: when its text, and that of those who joined with it, was encoded.
        decoded_at: when its latest step was sampled.
        steps: so many were, its own pauses not counted.
        first_codec_at, codec_until: from the start of its first piece's decoding to the end of its latest one's.
        codec_s: of that, seconds in the codec.
        pieces: so many left.
    """

    added_at: float | None = None
    joined_at: float | None = None
    encoded_at: float | None = None
    decoded_at: float | None = None
    steps: int = 0
    first_codec_at: float | None = None
    codec_until: float | None = None
    codec_s: float = 0.0
    pieces: int = 0

    def step(self, began_at: float, encoded_at: float, ended_at: float) -> None:
        """It was in a step."""
        if self.joined_at is None:
            self.joined_at, self.encoded_at = began_at, encoded_at
        self.decoded_at = ended_at
        self.steps += 1

    def piece(self, began_at: float, ended_at: float) -> None:
        """A piece of it was decoded."""
        self.first_codec_at = began_at if self.first_codec_at is None else self.first_codec_at
        self.codec_until = ended_at
        self.codec_s += ended_at - began_at
        self.pieces += 1


class Stopwatch:
    """Those requests in the engine whose times somebody wants to know; usually none."""

    def __init__(self, stats: StatsCollector) -> None:
        self._stats = stats
        self._times: dict[str, StageTimes] = {}
        self._text_s = 0.0

    def __len__(self) -> int:
        return len(self._times)

    def add(self, request_id: str, times: StageTimes, now_s: float) -> None:
        times.added_at = now_s
        if not self._times:
            self._text_s = self._stats.stage_seconds["text_encode"]  # nobody looked since
        self._times[request_id] = times

    def forget(self, request_id: str) -> None:
        self._times.pop(request_id, None)

    def note(
        self, plan: StepPlan[Row], result: StepResult, began_at: float, decoded_at: float, ended_at: float
    ) -> None:
        """One step.

        Args:
            began_at, decoded_at, ended_at: text and decoder worked from the first to the second, the codec
                to the third.
        """
        text_s = self._stats.stage_seconds["text_encode"]
        encoded_at, self._text_s = began_at + text_s - self._text_s, text_s
        for sequence in plan.running:
            if (times := self._times.get(sequence.request_id)) is not None:
                times.step(began_at, encoded_at, decoded_at)
                if sequence.request_id in result.chunks:
                    times.piece(decoded_at, ended_at)
