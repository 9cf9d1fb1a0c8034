"""One request on its way through the engine: how long it is and how far it got. Plain numbers, no tensors.

MusicGen has no end token, so everything about a request's length is known when it arrives:

    steps    1 2 3 4 5 6 …            T+3     (mono: the last codebook runs 3 steps behind the first)
    frames         0 1 2 …            T−1     frame t is complete after step t + 1 + largest delay

Where P frames of a window are known before, steps 1 … P are not sampled: the row works through these positions several
at a time (it is filled), and sampling begins with step P + 1. A model without cross-attention hears its melody and text
as positions before these steps (the prefix), in every window anew: they are filled as well, and counted as steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from models.engine.listener import Listener
from models.engine.windows import Window, positions_per_frame
from models.types import GenerationRequest

Row = TypeVar("Row")  # a reserved row of the KV cache; opaque here

KNOWN_FRAMES_PER_TURN = 10
"""Frames of known music that become sound in one step, so that nobody waits long for somebody's beginning."""


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"  # it keeps its rows and its slot, and is not in the step
    DONE = "done"  # finished, failed or aborted: it holds nothing any more


@dataclass(slots=True, eq=False)
class Sequence(Generic[Row]):
    """A request and its place in the batch.

    Attributes:
        frames: T, codec frames of the track, at least 1.
        largest_delay: of the codebook pattern, in steps.
        lag: steps after which it is known what a step made: it stays in the plan for as many after its last.
        prefix: positions of each row that come before the music of every window.
        step: steps of its window that are filled or sampled, and at the end the ``lag`` ones that it waits.
        slot: where its codes are kept while it runs, -1 otherwise.
        rows: reserved rows, ``[conditioned]``, ``[conditioned, null]`` or, for double guidance, ``[conditioned, null,
            wordless]``; empty unless it runs or is paused.
        listener: who hears it while it is made; None: nobody, it may be made whenever there is time.
        unpaid_steps: steps it was paused for, less those it has been paid for by running since.
        windows: of the track; by default one in which nothing is known.
        window_index: the window it is in.
        fill_share: positions of each of its rows that a step fills when nobody else has known music.
        turns: engine steps it took part in.
        is_turning: it has entered a window after its first and what is known of it is not laid out yet.
        has_known_music: it is filled at some time, with music or a prefix: a plain request never is, and samples in
            every step it is in.
        positions_per_frame: see `windows.positions_per_frame`.
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
    windows: tuple[Window, ...] = ()
    window_index: int = 0
    fill_share: int = 1
    turns: int = 0
    is_turning: bool = False
    prefix: int = 0
    has_known_music: bool = field(init=False)
    positions_per_frame: float = field(init=False)

    def __post_init__(self) -> None:
        self.windows = self.windows or (Window(0, self.frames),)
        self.has_known_music = len(self.windows) > 1 or self.windows[0].known > 0 or self.prefix > 0
        self.positions_per_frame = positions_per_frame(self.windows, self.largest_delay, self.prefix)

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def is_conditioned(self) -> bool:
        """Whether there is anything to listen to: "" is the null condition."""
        request = self.request
        return request.prompt != "" or request.melody is not None or request.style is not None

    @property
    def num_rows(self) -> int:
        """2 with guidance, 3 with double guidance, never parted: see `GenerationRequest.num_rows`."""
        return self.request.num_rows

    @property
    def window(self) -> Window:
        """The present one."""
        return self.windows[self.window_index]

    @property
    def num_steps(self) -> int:
        """Steps of its window, filled and sampled, which is also the number of KV positions each row needs."""
        return self.prefix + self.window.frames + self.largest_delay

    @property
    def positions(self) -> tuple[int, ...]:
        """KV positions to reserve, one number per row: the first window is the longest, and all use the same."""
        return (self.prefix + self.windows[0].frames + self.largest_delay,) * self.num_rows

    # ---------------------------------------------------------------------------------------------- how far it is

    @property
    def filled_steps(self) -> int:
        """Of its window, before the first that samples."""
        return self.prefix + self.window.known

    @property
    def unfilled_steps(self) -> int:
        """Positions of each row that are to be filled before it samples."""
        return max(0, self.filled_steps - self.step)

    @property
    def unsampled_steps(self) -> int:
        """Steps still to sample in its window; 0 for one that only waits for its last codes or its sound."""
        return max(0, self.num_steps - max(self.step, self.filled_steps))

    @property
    def is_sampling(self) -> bool:
        """Whether its next step samples; otherwise it is filled, or waits for its last codes or its sound."""
        return self.filled_steps <= self.step < self.num_steps

    @property
    def remaining_steps(self) -> int:
        """Steps until it is done; where others have known music too it may take some more."""
        if not self.has_known_music:
            return self.frames + self.largest_delay + self.lag - self.step
        steps = self._turns(self.unfilled_steps) + self.unsampled_steps
        steps += self.lag - max(0, self.step - self.num_steps)
        for window in self.windows[self.window_index + 1 :]:
            steps += self._turns(self.prefix + window.known)
            steps += window.frames - window.known + self.largest_delay + self.lag
        return max(steps, self._turns_to_sound(self.frames) - self.turns)

    @property
    def remaining_row_steps(self) -> int:
        """Rows of steps still to be computed for it: one for each position of each row that is filled or sampled."""
        positions = self.unfilled_steps + self.unsampled_steps
        following = self.windows[self.window_index + 1 :]
        each = self.prefix + self.largest_delay
        return self.num_rows * (positions + sum(each + window.frames for window in following))

    @property
    def steps_until_chunk(self) -> int:
        """Steps until the next chunk leaves for the listener."""
        assert self.listener is not None, "nobody listens: this is a bug"
        wanted = min(self.listener.codes_wanted, self.frames)
        if not self.has_known_music:
            return wanted + self.largest_delay + self.lag - self.step
        window, steps = self.window, 0
        if wanted > window.start + window.known:
            inside = min(wanted, window.start + window.frames) - window.start
            steps = self._turns(self.unfilled_steps) + inside + self.largest_delay + self.lag
            steps -= max(self.step, self.filled_steps) - self.prefix
        if wanted > window.start + window.frames:
            following = self.windows[self.window_index + 1]
            steps += self._turns(self.prefix + following.known) + wanted - window.start - window.frames
            steps += self.largest_delay + self.lag
        return max(steps, self._turns_to_sound(wanted) - self.turns)

    def frames_after(self, step: int) -> int:
        """Frames of the track whose codes are all known, and may become sound, after this turn.

        Args:
            step: of its window, sampled by then.
        """
        if not self.has_known_music:
            return min(max(step - self.largest_delay, 0), self.frames)
        window = self.window
        complete = window.start + max(window.known, min(step - self.prefix - self.largest_delay, window.frames))
        return min(complete, KNOWN_FRAMES_PER_TURN * (self.turns + 1))

    def advance(self, filled: int | None = None) -> None:
        """It took part in a step.

        Args:
            filled: positions of each row that were, None if it is not being filled.
        """
        self.turns += 1
        self.is_turning = False
        end = self.num_steps + self.lag
        self.step = min(self.step + (1 if filled is None else filled), end)
        if self.step == end and self.window_index + 1 < len(self.windows):
            self.window_index, self.step, self.is_turning = self.window_index + 1, 0, True

    # --------------------------------------------------------------------------------------------------- inside

    def _turns(self, positions: int) -> int:
        return -(-positions // self.fill_share)

    def _turns_to_sound(self, frames: int) -> int:
        """Turns after which so many frames may be sound, whatever the steps."""
        return -(-frames // KNOWN_FRAMES_PER_TURN)
