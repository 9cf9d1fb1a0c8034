"""Who takes part in the next step. Plain Python on plain numbers: no tensors and no clock.

A request is one atomic slot of 1 or 2 rows. It waits in line (first come, first served, nobody overtakes), joins when
its rows and all the KV positions it will ever need are free, and keeps them until it is done. Since lengths are known
at the door, there is nothing to preempt, to evict or to guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as SequenceOf
from typing import Generic, Protocol

from models.engine.sequence import Row, Sequence, State
from models.engine.step import StepPlan


class RowPool(Protocol[Row]):
    """The owner of KV positions, as far as the scheduler needs it. One row is one contiguous region."""

    @property
    def free_positions(self) -> int: ...

    def can_allocate(self, positions: SequenceOf[int]) -> bool: ...

    def allocate(self, positions: int) -> Row: ...

    def free(self, handle: Row) -> None: ...


class Scheduler(Generic[Row]):
    """The one owner of places: slots, rows and KV regions are taken and given back only here."""

    def __init__(self, pool: RowPool[Row], *, max_rows: int, max_queue: int, max_joins_per_step: int = 1) -> None:
        """
        Args:
            pool: KV positions.
            max_rows: rows in one step.
            max_queue: requests that may wait beyond those that could start at once.
            max_joins_per_step: each join costs a text encoding inside the step, which the others wait for.
        """
        self._pool = pool
        self._max_rows = max_rows
        self._max_queue = max_queue
        self._max_joins = max_joins_per_step
        self._total_positions = pool.free_positions
        self._waiting: deque[Sequence[Row]] = deque()
        self._running: dict[str, Sequence[Row]] = {}
        self._free_slots = list(range(max_rows))
        self._composition = 0

    # ------------------------------------------------------------------------------------------------ the verbs

    def can_ever_run(self, sequence: Sequence[Row]) -> bool:
        """Whether an empty engine could hold it."""
        return sequence.num_rows <= self._max_rows and sum(sequence.positions) <= self._total_positions

    def has_room(self, sequence: Sequence[Row]) -> bool:
        """Whether it may join the line: no more than ``max_queue`` are in it who could not start at once."""
        rows, positions = self.free_rows, self._pool.free_positions
        line = [*self._waiting, sequence]
        for place, each in enumerate(line):
            rows, positions = rows - each.num_rows, positions - sum(each.positions)
            if rows < 0 or positions < 0:
                return len(line) - place <= self._max_queue
        return True

    def add(self, sequence: Sequence[Row]) -> None:
        """Put a request at the end of the line."""
        self._waiting.append(sequence)

    def schedule(self) -> StepPlan[Row]:
        """Let the head of the line in while there is room, and say who steps."""
        joined: list[Sequence[Row]] = []
        while self._waiting and len(joined) < self._max_joins and self._fits(self._waiting[0]):
            joined.append(self._start(self._waiting.popleft()))
        assert self._running or not self._waiting, "an empty engine can not start the head of the line: this is a bug"
        return StepPlan(tuple(self._running.values()), tuple(joined), self._composition)

    def remove(self, request_id: str) -> Sequence[Row] | None:
        """Take a request out, wherever it is, and give back all it holds. None if it is not here."""
        sequence = self._running.pop(request_id, None)
        if sequence is not None:
            self._release(sequence)
            return sequence
        for waiting in self._waiting:
            if waiting.request_id == request_id:
                self._waiting.remove(waiting)
                waiting.state = State.DONE
                return waiting
        return None

    # --------------------------------------------------------------------------------------------- what is where

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._running or any(each.request_id == request_id for each in self._waiting)

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def active_rows(self) -> int:
        return sum(each.num_rows for each in self._running.values())

    @property
    def free_rows(self) -> int:
        return self._max_rows - self.active_rows

    @property
    def outstanding_row_steps(self) -> int:
        """Work accepted and not done yet, in rows × steps."""
        return sum(each.remaining_steps * each.num_rows for each in (*self._running.values(), *self._waiting))

    def steps_until_room(self) -> int:
        """Steps until the head of the line starts and the line is one shorter: arithmetic, since lengths are known."""
        if not self._waiting:
            return 0
        head, rows, positions, steps = self._waiting[0], self.free_rows, self._pool.free_positions, 0
        for each in sorted(self._running.values(), key=lambda sequence: sequence.remaining_steps):
            if head.num_rows <= rows and sum(head.positions) <= positions:
                break
            rows, positions, steps = rows + each.num_rows, positions + sum(each.positions), each.remaining_steps
        return steps

    def check_integrity(self) -> None:
        """Raise AssertionError if a place is lost or taken twice. This would be a bug."""
        slots = [each.slot for each in self._running.values()]
        assert sorted(slots + self._free_slots) == list(range(self._max_rows)), "a slot is lost or taken twice"
        assert self.free_rows >= 0, "more rows than a step has"
        for each in self._running.values():
            assert each.state is State.RUNNING, f"{each.request_id} runs without being started"
            assert len(each.rows) == each.num_rows, f"{each.request_id} lost a row of its pair"
        for each in self._waiting:
            assert each.state is State.WAITING, f"{each.request_id} is in the line but does not wait"
            assert not each.rows, f"{each.request_id} holds rows while it waits"

    # --------------------------------------------------------------------------------------------------- inside

    def _fits(self, sequence: Sequence[Row]) -> bool:
        return sequence.num_rows <= self.free_rows and self._pool.can_allocate(sequence.positions)

    def _start(self, sequence: Sequence[Row]) -> Sequence[Row]:
        sequence.rows = tuple(self._pool.allocate(positions) for positions in sequence.positions)
        sequence.slot = self._free_slots.pop()
        sequence.state = State.RUNNING
        self._running[sequence.request_id] = sequence
        self._composition += 1
        return sequence

    def _release(self, sequence: Sequence[Row]) -> None:
        for row in sequence.rows:
            self._pool.free(row)
        self._free_slots.append(sequence.slot)
        sequence.rows, sequence.slot, sequence.state = (), -1, State.DONE
        self._composition += 1
