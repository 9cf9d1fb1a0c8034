"""The sealed format: any range opens, and nothing opens that is not exactly what was sealed, where it was sealed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.storage import sealed
from api.storage.errors import SealBrokenError
from api.storage.sealed import HEADER_BYTES, SEGMENT_BYTES, TAG_BYTES

KEY = bytes(range(32))
ME = sealed.bound("acc_1", "acc_1/tracks/a")
STEP = SEGMENT_BYTES + TAG_BYTES
SIZES = st.one_of(st.integers(0, 300), st.sampled_from([SEGMENT_BYTES * n + d for n in (1, 2, 3) for d in (-1, 0, 1)]))


def content_of(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


def open_range(whole: bytes, size: int, start: int, stop: int, *, key: bytes = KEY, identity: bytes = ME) -> bytes:
    cipher = sealed.SegmentCipher(whole[:HEADER_BYTES], key, identity)
    first, last = sealed.segment_span(start, stop)
    return sealed.open_span(cipher, whole[first:last], start, stop, size)


@settings(max_examples=60, deadline=None)
@given(size=SIZES, data=st.data())
def test_every_range_opens_from_its_segments_alone(size: int, data: st.DataObject) -> None:
    content = content_of(size)
    whole = sealed.seal(content, 3, KEY, ME)
    assert len(whole) == sealed.sealed_size(size)
    assert sealed.key_version(whole) == 3
    if size:
        start = data.draw(st.integers(0, size - 1))
        stop = data.draw(st.integers(start + 1, size))
        assert open_range(whole, size, start, stop) == content[start:stop]


def test_the_same_content_is_never_sealed_twice_the_same() -> None:
    assert sealed.seal(b"x", 1, KEY, ME) != sealed.seal(b"x", 1, KEY, ME)


@settings(max_examples=80, deadline=None)
@given(position=st.integers(0, sealed.sealed_size(SEGMENT_BYTES + 10) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(position: int, bit: int) -> None:
    size = SEGMENT_BYTES + 10
    whole = bytearray(sealed.seal(content_of(size), 1, KEY, ME))
    whole[position] ^= 1 << bit
    with pytest.raises(SealBrokenError):
        open_range(bytes(whole), size, 0, size)


def three_segments() -> tuple[bytes, list[bytes]]:
    whole = sealed.seal(content_of(3 * SEGMENT_BYTES), 1, KEY, ME)
    return whole[:HEADER_BYTES], [whole[HEADER_BYTES + i * STEP :][:STEP] for i in range(3)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0, 2), (0, 0, 2), (0, 2), (2, 1, 0), (0, 1, 2, 2), ()])
def test_segments_cannot_be_dropped_repeated_or_moved(order: tuple[int, ...]) -> None:
    """Also where whoever reads believes the size that the remains suggest."""
    header, segments = three_segments()
    forged = header + b"".join(segments[i] for i in order)
    size = max(1, len(order)) * SEGMENT_BYTES
    with pytest.raises(SealBrokenError):
        open_range(forged, size, 0, size)


def test_a_segment_of_another_object_does_not_open() -> None:
    """Not even of one with the same key, name and length."""
    header, segments = three_segments()
    _, others = three_segments()
    with pytest.raises(SealBrokenError):
        open_range(header + segments[0] + others[1] + segments[2], 3 * SEGMENT_BYTES, 0, 3 * SEGMENT_BYTES)


@pytest.mark.parametrize(
    "identity",
    [
        sealed.bound("acc_1", "acc_1/tracks/b"),
        sealed.bound("acc_2", "acc_1/tracks/a"),
        sealed.bound("acc_1acc_1/tracks/a"),
    ],
)
def test_an_object_opens_only_under_its_own_name_and_account(identity: bytes) -> None:
    whole = sealed.seal(b"music", 1, KEY, ME)
    assert open_range(whole, 5, 0, 5) == b"music"
    with pytest.raises(SealBrokenError):
        open_range(whole, 5, 0, 5, identity=identity)
    with pytest.raises(SealBrokenError):
        open_range(whole, 5, 0, 5, key=bytes(32))


@pytest.mark.parametrize("header", [b"", b"TUTTI", b"x" * 40, bytes(40)])
def test_what_is_no_sealed_object_is_named_so(header: bytes) -> None:
    with pytest.raises(SealBrokenError, match="begin"):
        sealed.key_version(header)


def test_bound_names_do_not_run_together() -> None:
    assert sealed.bound("ab", "c") != sealed.bound("a", "bc") != sealed.bound("abc")
