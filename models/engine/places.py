"""Slots, rows and KV positions, taken and given back only here. Plain numbers."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Generic, Protocol

from models.engine.sequence import Row, Sequence, State


class RowPool(Protocol[Row]):
    """The owner of KV positions, as far as the scheduler needs it. One row is one contiguous region."""

    @property
    def free_positions(self) -> int: ...

    def can_allocate(self, positions: SequenceOf[int]) -> bool: ...

    def allocate(self, positions: int) -> Row: ...

    def free(self, handle: Row) -> None: ...


class Places(Generic[Row]):
    """
    Args:
        pool: KV positions.
        max_rows: rows that may be held, by those in the step and those paused.

    Attributes:
        held: those who hold rows, paused or not, by request id in order of arrival.
    """

    def __init__(self, pool: RowPool[Row], max_rows: int) -> None:
        self.held: dict[str, Sequence[Row]] = {}
        self._pool = pool
        self._max_rows = max_rows
        self._total_positions = pool.free_positions
        self._free_slots = list(range(max_rows))

    @property
    def free_rows(self) -> int:
        """Rows that nobody holds."""
        return self._max_rows - sum(each.num_rows for each in self.held.values())

    @property
    def free_positions(self) -> int:
        """KV positions that nobody holds; not in one piece, maybe."""
        return self._pool.free_positions

    def can_ever_hold(self, sequence: Sequence[Row]) -> bool:
        """Whether it would fit if nobody else were there."""
        return sequence.num_rows <= self._max_rows and sum(sequence.positions) <= self._total_positions

    def can_hold(self, sequence: Sequence[Row]) -> bool:
        """Whether there is room for it now."""
        return sequence.num_rows <= self.free_rows and self._pool.can_allocate(sequence.positions)

    def take(self, sequence: Sequence[Row]) -> None:
        """Give it all it will ever need. Ask `can_hold` before."""
        sequence.rows = tuple(self._pool.allocate(positions) for positions in sequence.positions)
        sequence.slot = self._free_slots.pop()
        sequence.state = State.RUNNING
        self.held[sequence.request_id] = sequence

    def give_back(self, request_id: str) -> Sequence[Row] | None:
        """All that a request holds; None if it holds nothing."""
        sequence = self.held.pop(request_id, None)
        if sequence is not None:
            for row in sequence.rows:
                self._pool.free(row)
            self._free_slots.append(sequence.slot)
            sequence.rows, sequence.slot, sequence.state = (), -1, State.DONE
        return sequence

    def check_integrity(self) -> None:
        """Raise AssertionError if a place is lost or taken twice. This would be a bug."""
        slots = [each.slot for each in self.held.values()]
        assert sorted(slots + self._free_slots) == list(range(self._max_rows)), "a slot is lost or taken twice"
        assert self.free_rows >= 0, "more rows than a step has"
        for each in self.held.values():
            assert each.state in (State.RUNNING, State.PAUSED), f"{each.request_id} holds rows without being started"
            assert len(each.rows) == each.num_rows, f"{each.request_id} lost a row"
