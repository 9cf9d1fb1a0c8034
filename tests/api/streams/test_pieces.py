"""The grid: whoever cuts a track, in whatever chunks, makes the same pieces."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.streams.pieces import Piece, Slicer, TrackHeader
from models.errors import GenerationFailedError, ReplicaLostError
from models.types import AudioChunk

RATES = [8_000, 32_000, 44_100, 48_000]


def chunks(samples: np.ndarray[tuple[int, int], np.dtype[np.float32]], rate: int, cuts: list[int]) -> list[AudioChunk]:
    """The track, cut at these samples."""
    total, channels = samples.shape
    bounds = sorted({0, total, *(cut % (total + 1) for cut in cuts)})
    return [
        AudioChunk(index, first, channels, rate, samples[first:stop].tobytes(), total, is_last=stop == total)
        for index, (first, stop) in enumerate(itertools.pairwise(bounds))
    ]


def sliced(track: list[AudioChunk]) -> list[Piece]:
    slicer = Slicer(0)
    pieces = [piece for chunk in track for piece in slicer.push(chunk)]
    assert slicer.complete
    return pieces


@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(1, 40_000),
    rate=st.sampled_from(RATES),
    channels=st.sampled_from([1, 2]),
    cuts=st.lists(st.integers(0, 100_000), max_size=12),
)
def test_the_chunking_does_not_show(total: int, rate: int, channels: int, cuts: list[int]) -> None:
    samples = np.random.default_rng(total).uniform(-1.2, 1.2, (total, channels)).astype("<f4")
    whole = sliced(chunks(samples, rate, []))
    assert sliced(chunks(samples, rate, cuts)) == whole
    header = TrackHeader(rate, channels, total)
    assert len(whole) == header.num_pieces
    assert [piece.index for piece in whole] == list(range(header.num_pieces))
    assert [len(piece.pcm) for piece in whole] == [header.num_bytes(piece.index) for piece in whole]
    assert [piece.is_last for piece in whole] == [False] * (len(whole) - 1) + [True]
    expected = np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    assert b"".join(piece.pcm for piece in whole) == expected


def test_a_piece_is_a_fifth_of_a_second() -> None:
    header = TrackHeader(32_000, 2, 100_000)
    assert (header.piece_samples, header.num_pieces) == (6_400, 16)
    assert (header.num_samples(0), header.num_samples(15)) == (6_400, 4_000)
    assert header.num_bytes(15) == 16_000
    assert header.duration_s == 3.125


def test_a_piece_leaves_as_soon_as_it_is_whole() -> None:
    track = chunks(np.zeros((32_000, 1), np.float32), 32_000, [6_399, 6_400, 19_200])
    slicer = Slicer(0)
    assert [len(slicer.push(chunk)) for chunk in track] == [0, 1, 2, 2]


def test_a_hole_is_refused() -> None:
    first, second = chunks(np.zeros((32_000, 1), np.float32), 32_000, [8_000])
    slicer = Slicer(0)
    slicer.push(first)
    with pytest.raises(ReplicaLostError, match="8000 to 8007 are missing"):
        slicer.push(replace(second, first_sample=8_007))


def test_an_early_end_is_refused() -> None:
    first, _ = chunks(np.zeros((32_000, 1), np.float32), 32_000, [8_000])
    with pytest.raises(ReplicaLostError, match="ended at sample 8000 of 32000"):
        Slicer(0).push(replace(first, is_last=True))


def test_more_samples_than_announced_are_refused() -> None:
    [chunk] = chunks(np.zeros((8_000, 1), np.float32), 32_000, [])
    with pytest.raises(GenerationFailedError, match="8000 samples came where 7999 were due"):
        Slicer(0).push(replace(chunk, total_samples=7_999))


def test_a_track_does_not_change_on_the_way() -> None:
    first, second = chunks(np.zeros((32_000, 1), np.float32), 32_000, [8_000])
    slicer = Slicer(0)
    slicer.push(first)
    with pytest.raises(GenerationFailedError, match="changed on the way"):
        slicer.push(replace(second, sample_rate=16_000))


def test_samples_that_are_no_numbers_are_refused() -> None:
    [chunk] = chunks(np.full((10, 1), np.nan, np.float32), 32_000, [])
    with pytest.raises(GenerationFailedError, match="no numbers"):
        Slicer(0).push(chunk)


def test_a_track_is_not_complete_before_its_end_marker() -> None:
    [chunk] = chunks(np.zeros((6_400, 1), np.float32), 32_000, [])
    slicer = Slicer(0)
    assert len(slicer.push(replace(chunk, is_last=False))) == 1
    assert not slicer.complete
