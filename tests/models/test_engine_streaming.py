"""What is streamed is the whole-clip decode, whatever the chunks; and it leaves as early as it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.models.engine_support import HOP, RUNNERS, Track, alone, drive, request, small_engine, small_model

LOOKAHEAD = small_model().codec.lookahead_frames


def whole_decode(codes: NDArray[np.int64], stereo: bool) -> NDArray[np.float32]:
    """All codes at once, ``[samples, channels]``."""
    tensor = torch.from_numpy(codes.copy())
    channels = [tensor[0::2], tensor[1::2]] if stereo else [tensor]
    samples = small_model(stereo).codec.decode(torch.stack(channels))  # [channels, 1, samples]
    return samples[:, 0].T.clamp(-1, 1).numpy()


def assert_well_formed(track: Track, frames: int) -> None:
    """Indices and offsets without a gap, lengths known from the start, one end marker at the end."""
    sample = 0
    for index, chunk in enumerate(track.chunks):
        assert chunk.index == index
        assert chunk.first_sample == sample
        assert chunk.total_samples == frames * HOP
        assert chunk.num_samples > 0
        assert chunk.is_last == (index == len(track.chunks) - 1)
        assert (chunk.codes is not None) == chunk.is_last
        sample += chunk.num_samples
    assert sample == frames * HOP


@RUNNERS
@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 70),
    first_frames=st.integers(1, 60),
    growth=st.sampled_from([1.0, 1.3, 2.0, 10.0]),
    largest=st.integers(1, 60),
    stereo=st.booleans(),
)
def test_streamed_is_whole_at_every_chunk_size(
    runner: dict[str, Any], frames: int, first_frames: int, growth: float, largest: int, stereo: bool
) -> None:
    sizes = {"first_chunk_s": first_frames / 50, "chunk_growth": growth}
    sizes["max_chunk_s"] = max(first_frames, largest) / 50
    track = alone(request(frames=frames, seed=frames), stereo, **sizes, **runner)
    assert_well_formed(track, frames)
    expected = whole_decode(track.codes(8 if stereo else 4), stereo)
    np.testing.assert_allclose(track.pcm, expected, atol=1e-5, rtol=0)


def test_the_music_is_not_silence() -> None:
    """Or the comparisons above would prove nothing."""
    pcm = alone(request(frames=50)).pcm
    assert pcm.std() > 0.01
    assert np.abs(pcm).max() <= 1


def test_stereo_channels_differ_and_are_even_and_odd_codebooks() -> None:
    track = alone(request(frames=30), stereo=True)
    codes, codec = torch.from_numpy(track.codes(8).copy()), small_model(stereo=True).codec
    assert not np.array_equal(track.pcm[:, 0], track.pcm[:, 1])
    for channel in (0, 1):
        expected = codec.decode(codes[channel::2][None])[0, 0].clamp(-1, 1).numpy()
        np.testing.assert_allclose(track.pcm[:, channel], expected, atol=1e-5, rtol=0)


def steps_of_chunks(frames: int, **config: Any) -> list[tuple[int, int]]:
    """(step, frames) of every chunk of one request."""
    engine, seen, step = small_engine(**config), [], 0
    engine.add(request(frames=frames))
    while engine.has_work:
        step += 1
        seen += [(step, output.news.num_samples // HOP) for output in engine.step()]  # type: ignore[union-attr]
    return seen


def test_the_first_exact_frame_exists_after_its_lookahead_and_the_delay() -> None:
    """A frame per chunk: frame t is out after step t + 1 + 3 (delay) + look-ahead; 8 for the published codec."""
    seen = steps_of_chunks(20, first_chunk_s=0.02, max_chunk_s=0.02)
    first = 1 + 3 + LOOKAHEAD
    assert seen[: 20 - LOOKAHEAD - 1] == [(step, 1) for step in range(first, 23)]
    assert seen[-1] == (23, 1 + LOOKAHEAD), "the last step flushes the tail"


def test_chunks_grow_up_to_the_limit() -> None:
    sizes = [size for _, size in steps_of_chunks(100, first_chunk_s=0.1, chunk_growth=2.0, max_chunk_s=0.4)]
    assert sizes[:4] == [5, 10, 20, 20]
    assert sum(sizes) == 100


def test_codes_are_returned_only_when_asked() -> None:
    engine = small_engine(return_codes=False)
    track = drive(engine, {0: [request()]})["r"]
    assert all(chunk.codes is None for chunk in track.chunks)


def test_codes_are_in_range_and_delays_undone() -> None:
    codes = alone(request(frames=25)).codes()
    assert codes.shape == (4, 25)
    assert codes.min() >= 0
    assert codes.max() < 64


@RUNNERS
@pytest.mark.parametrize("frames", [1, 2, 3, LOOKAHEAD, LOOKAHEAD + 1])
def test_the_shortest_tracks(frames: int, runner: dict[str, Any]) -> None:
    track = alone(request(frames=frames), **runner)
    assert_well_formed(track, frames)
    assert len(track.chunks) == 1
    np.testing.assert_allclose(track.pcm, whole_decode(track.codes(), stereo=False), atol=1e-5, rtol=0)


def test_the_synchronous_generator_equals_the_engine_and_aborts_when_closed() -> None:
    engine = small_engine(first_chunk_s=0.04)
    chunks = list(engine.generate(request(frames=30)))
    assert chunks == alone(request(frames=30), first_chunk_s=0.04).chunks
    stream = engine.generate(request(frames=30))
    next(stream)
    stream.close()
    assert not engine.has_work
    assert engine.stats().aborted == 1
