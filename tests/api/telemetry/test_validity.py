"""What counts as audio, looked at piece by piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from api.telemetry.validity import Validity

pieces = st.lists(arrays.arrays(np.int16, st.integers(0, 40)), min_size=1, max_size=8)


def of(*parts: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> Validity:
    found = Validity()
    for part in parts:
        found.add(part)
    return found


@given(pieces)
def test_in_pieces_as_in_one(parts: list[np.ndarray[tuple[int], np.dtype[np.int16]]]) -> None:
    whole = np.concatenate(parts).astype(np.int64)
    found = of(*parts)
    assert found.samples == whole.size
    assert found.silent == (not whole.any())
    assert found.clipped == int((abs(whole) >= 32767).sum())


TONE = np.tile(np.array([[100, -100]], np.int16), (500, 1))


@pytest.mark.parametrize(
    ("track", "due", "valid"),
    [
        (TONE, 1000, True),
        (TONE, 1001, False),
        (TONE[:499], 1000, False),
        (np.zeros((500, 2), np.int16), 1000, False),
        (np.concatenate([TONE.ravel()[:991], np.full(9, 32767, np.int16)]), 1000, True),
        (np.concatenate([TONE.ravel()[:990], np.full(10, -32768, np.int16)]), 1000, False),
    ],
    ids=["tone", "too short", "cut", "silence", "0.9 % clipped", "1 % clipped"],
)
def test_what_is_valid(track: np.ndarray[tuple[int, ...], np.dtype[np.int16]], due: int, valid: bool) -> None:
    assert of(track).holds(due) is valid
