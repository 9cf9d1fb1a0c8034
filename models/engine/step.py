"""What the stages of one step hand to each other: a plan, a result, outputs. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic

from models.engine.sequence import Row, Sequence
from models.errors import GenerationFailedError, TuttiError
from models.types import AudioChunk


@dataclass(frozen=True, slots=True)
class StepPlan(Generic[Row]):
    """What the scheduler decided.

    Attributes:
        running: every request of this step, in order of arrival; the rows of each are all in or all out. Others may
            hold rows and pause.
        joined: those of ``running`` whose first step this is: they still need their text encoded.
        composition: changes when the set of those who sample does and only then, so that what was laid out for one
            batch can be kept until then.
        filling: those of ``running`` who do not sample yet since music is known to them that their rows work through
            first, with how many positions each row does in this step, maybe 0.
    """

    running: tuple[Sequence[Row], ...]
    joined: tuple[Sequence[Row], ...]
    composition: int
    filling: tuple[tuple[Sequence[Row], int], ...] = ()

    @property
    def filled_rows(self) -> int:
        """Rows of the step that are filled: one for each position."""
        return sum(share * sequence.num_rows for sequence, share in self.filling)


@dataclass(slots=True)
class StepResult:
    """What became of the requests in a plan, collected stage by stage; whoever is not in ``failures`` has advanced.

    Attributes:
        failures: errors by request id: each ends that request alone.
        chunks: finished audio by request id.
        is_broken: the batched step itself raised, and all its requests failed.
    """

    failures: dict[str, TuttiError] = field(default_factory=dict)
    chunks: dict[str, AudioChunk] = field(default_factory=dict)
    is_broken: bool = False

    def fail_all(self, plan: StepPlan[Row]) -> None:
        """The batched step raised: everybody in it who did not fail otherwise fails with it."""
        self.is_broken = True
        for sequence in plan.running:
            error = GenerationFailedError(f"the engine's step {sequence.step + 1} of this request failed; try again")
            self.failures.setdefault(sequence.request_id, error)


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """News about one request: a chunk, or the error that ended it."""

    request_id: str
    news: AudioChunk | TuttiError

    @property
    def is_end(self) -> bool:
        """Nothing follows for this request."""
        return isinstance(self.news, TuttiError) or self.news.is_last
