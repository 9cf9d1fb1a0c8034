"""One request on its way through the engine: how long it is and how far it got. Plain numbers, no tensors.

MusicGen has no end token, so everything about a request's length is known when it arrives:

    steps    1 2 3 4 5 6 …            T+3     (mono: the last codebook runs 3 steps behind the first)
    frames         0 1 2 …            T−1     frame t is complete after step t + 1 + largest delay
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from models.engine.listener import Listener
from models.types import GenerationRequest

Row = TypeVar("Row")  # a reserved row of the KV cache; opaque here


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"  # it keeps its rows and its slot, and is not in the step
    DONE = "done"  # finished, failed or aborted: it holds nothing any more


@dataclass(slots=True, eq=False)
class Sequence(Generic[Row]):
    """A request and its place in the batch.

    Attributes:
        frames: T, codec frames to make, at least 1.
        largest_delay: of the codebook pattern, in steps.
        lag: steps after which it is known what a step made: it stays in the plan for as many after its last.
        step: steps it took part in so far; all but the last ``lag`` ones sample a line of codes.
        slot: where its codes are kept while it runs, -1 otherwise.
        rows: reserved rows, ``[conditioned]`` or ``[conditioned, null]``; empty unless it runs or is paused.
        listener: who hears it while it is made; None: nobody, it may be made whenever there is time.
        unpaid_steps: steps it was paused for, less those it has been paid for by running since.
    """

    request: GenerationRequest
    frames: int
    largest_delay: int
    lag: int = 0
    step: int = 0
    slot: int = -1
    rows: tuple[Row, ...] = field(default=())
    state: State = State.WAITING
    listener: Listener | None = None
    unpaid_steps: int = 0

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def is_conditioned(self) -> bool:
        """Whether there is a prompt to listen to: "" is the null condition."""
        return self.request.prompt != ""

    @property
    def num_rows(self) -> int:
        """2 with guidance, which compares the conditioned row with a null row; the pair is never split."""
        return 2 if self.is_conditioned and self.request.sampling.guidance > 1 else 1

    @property
    def num_steps(self) -> int:
        """Steps to sample, which is also the number of KV positions each row needs."""
        return self.frames + self.largest_delay

    @property
    def positions(self) -> tuple[int, ...]:
        """KV positions to reserve, one number per row."""
        return (self.num_steps,) * self.num_rows

    @property
    def unsampled_steps(self) -> int:
        """Steps still to sample; 0 for one that only waits for its last codes."""
        return max(0, self.num_steps - self.step)

    @property
    def remaining_steps(self) -> int:
        """Steps until it is done."""
        return self.num_steps + self.lag - self.step

    @property
    def steps_until_chunk(self) -> int:
        """Steps until the next chunk leaves for the listener."""
        assert self.listener is not None, "nobody listens: this is a bug"
        return min(self.listener.codes_wanted, self.frames) + self.largest_delay + self.lag - self.step

    def frames_after(self, step: int) -> int:
        """Frames whose codes are all known once ``step`` steps are sampled."""
        return min(max(step - self.largest_delay, 0), self.frames)
