"""Who owns which positions of an arena, and which text. Plain numbers, first fit.

A track's length is known before it starts, so a row reserves exactly the positions it will need, in one piece, from
an arena that is made once: no paging, no growth, no eviction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class RowHandle:
    """One row's region of the arena; made and ended by its cache alone.

    Attributes:
        start: first position in the arena.
        positions: reserved.
        length: positions written so far.
    """

    start: int
    positions: int
    length: int = 0

    @property
    def end(self) -> int:
        return self.start + self.positions


@dataclass(slots=True)
class _Shared:
    """A text in the cache's own form, and how many rows have it."""

    text: Any
    rows: int = 0


class RowCache(ABC):
    """What a decoder remembers of rows; where and in what order it lies is the decoder's own.

    Args:
        positions: of the arena, over all rows.
        granularity: a row's region starts at a multiple of it, and takes one.
    """

    def __init__(self, positions: int, granularity: int = 1) -> None:
        assert positions > 0, "a cache without positions holds nothing: this is a bug"
        assert positions % granularity == 0, "an arena is a whole number of blocks: this is a bug"
        self._positions = positions
        self._granularity = granularity
        self._gaps = [(0, positions)]  # (start, length), in order, never touching one another
        self._cross: dict[RowHandle, Any] = {}  # every living row has an entry: its text, or None
        self._prompts: dict[RowHandle, str] = {}  # of rows whose texts are shared
        self._shared: dict[str, _Shared] = {}

    @property
    def free_positions(self) -> int:
        return sum(length for _, length in self._gaps)

    @property
    def num_rows(self) -> int:
        return len(self._cross)

    @property
    def held_texts(self) -> list[Any]:
        """Of living rows, in the cache's own form; one that rows share is there once."""
        return list({id(text): text for text in self._cross.values() if text is not None}.values())

    def can_allocate(self, positions: Sequence[int]) -> bool:
        """Whether rows of these lengths would fit, allocated one after the other in this order."""
        gaps = list(self._gaps)
        return all(_take_first_fit(gaps, self._rounded(each)) is not None for each in positions)

    def allocate(self, positions: int) -> RowHandle:
        """Reserve exactly that many positions, in the first gap that holds them. Ask `can_allocate` before."""
        assert positions > 0, "a row has at least one position: this is a bug"
        positions = self._rounded(positions)
        start = _take_first_fit(self._gaps, positions)
        assert start is not None, f"no gap of {positions} positions, can_allocate was not asked: this is a bug"
        handle = RowHandle(start, positions)
        self._cross[handle] = None
        return handle

    def free(self, handle: RowHandle) -> None:
        """Give the row's positions back, and its text unless another row has it too; views of it end."""
        assert handle in self._cross, "a row is freed once: this is a bug"
        self._let_go(self._prompts.pop(handle, None), self._cross.pop(handle))
        self._gaps.append((handle.start, handle.positions))
        self._gaps.sort()
        self._gaps = _merged(self._gaps)

    def rewind(self, handle: RowHandle) -> None:
        """Begin the row anew at position 0, with the text it has."""
        assert handle in self._cross, "the row was freed: this is a bug"
        handle.length = 0

    def set_cross(self, handle: RowHandle, text: Any) -> None:
        """Give a row a text of its own, once: the decoder's `cross_kv`. A row without is a null row and attends to
        none."""
        assert self._cross.get(handle, text) is None, "the row was freed or has a text: this is a bug"
        self._cross[handle] = self._kept(text)

    def share_cross(self, handle: RowHandle, prompt: str, text: Callable[[], Any]) -> None:
        """Give a row its prompt's text, once: that of a living row with the same prompt, or else what ``text`` gives.
        It lives as long as any of them."""
        assert self._cross.get(handle, text) is None, "the row was freed or has a text: this is a bug"
        shared = self._shared.get(prompt) or _Shared(self._kept(text()))
        self._shared[prompt] = shared
        self._cross[handle], self._prompts[handle] = shared.text, prompt
        shared.rows += 1

    @abstractmethod
    def view(self, rows: Sequence[RowHandle], filled: Sequence[RowHandle] = ()) -> Any:
        """These rows, in this order, for steps to come; holds until a row is freed or gets its text.

        Args:
            filled: rows of the step that come after these and whose logits nobody wants; a row is there as many times
                as positions of it are filled at once.
        """

    @abstractmethod
    def _kept(self, text: Any) -> Any:
        """A text in the cache's own form."""

    def _drop(self, text: Any) -> None:
        """A text in the cache's own form that no row has any more."""
        del text  # as all memory that is not of an arena, it goes with its last owner

    def check_integrity(self) -> None:
        """Every position belongs to exactly one row or gap, and gaps are merged.

        Raises:
            AssertionError: saying what is broken.
        """
        pieces = [(row.start, row.positions, "row") for row in self._cross]
        pieces += [(start, length, "gap") for start, length in self._gaps]
        end, before = 0, "row"
        for start, length, kind in sorted(pieces):
            assert length > 0, f"an empty {kind} at position {start}"
            assert start == end, f"positions {min(start, end)} to {max(start, end)} belong to two or none"
            assert not (kind == before == "gap"), f"two gaps touch at position {start}"
            end, before = start + length, kind
        assert end == self._positions, f"positions {end} to {self._positions} belong to none"
        assert all(row.length <= row.positions for row in self._cross), "a row wrote beyond its region"
        rows = {prompt: shared.rows for prompt, shared in self._shared.items()}
        assert rows == Counter(self._prompts.values()), "a shared text outlived its rows, or ended before them"

    def _let_go(self, prompt: str | None, text: Any) -> None:
        """A row with this text is no more."""
        if prompt is not None:
            self._shared[prompt].rows -= 1
            if self._shared[prompt].rows:
                return
            del self._shared[prompt]
        if text is not None:
            self._drop(text)

    def _rounded(self, positions: int) -> int:
        return -(-positions // self._granularity) * self._granularity


def advance(rows: Sequence[RowHandle], positions: Sequence[int]) -> None:
    """Open one new position in each row; its positions come in order, 0 first. The last one may be repeated.

    A row may be there several times, with one position after the other.
    """
    assert len(positions) == len(rows), f"{len(positions)} positions for {len(rows)} rows: this is a bug"
    for row, position in zip(rows, positions, strict=True):
        assert max(0, row.length - 1) <= position <= row.length, f"{position} is not next: this is a bug"
        assert position < row.positions, f"position {position} was not reserved: this is a bug"
        row.length = position + 1


def _take_first_fit(gaps: list[tuple[int, int]], positions: int) -> int | None:
    """Cut that many positions from the first gap that has them; returns where, or None."""
    for index, (start, length) in enumerate(gaps):
        if length >= positions:
            gaps[index : index + 1] = [(start + positions, length - positions)] if length > positions else []
            return start
    return None


def _merged(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Touching gaps made one."""
    merged: list[tuple[int, int]] = []
    for start, length in gaps:
        if merged and sum(merged[-1]) == start:
            merged[-1] = (merged[-1][0], merged[-1][1] + length)
        else:
            merged.append((start, length))
    return merged
