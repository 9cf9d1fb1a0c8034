"""The picture of a waveform: for each bin of time the least and the largest sample, over all channels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from api.formats.base import FloatSamples

MAX_BINS = 1000
_SCALE = 127


def measure_peaks(samples: FloatSamples) -> bytes:
    """Minimum and maximum of each of 1,000 bins (of fewer, if there are fewer samples) as pairs of int8.

    Bin ``i`` of ``n`` holds the samples from ``i * total // n`` on. Rounded outwards, so that no bin shows less than
    it holds; 127 is full scale, and what is louder is cut there.
    """
    bins = min(MAX_BINS, len(samples))
    starts = np.arange(bins) * len(samples) // bins
    low = np.minimum.reduceat(samples.min(axis=1), starts)
    high = np.maximum.reduceat(samples.max(axis=1), starts)
    pairs = np.stack([np.floor(low * _SCALE), np.ceil(high * _SCALE)], axis=1)
    limited: npt.NDArray[np.int8] = np.clip(pairs, -_SCALE, _SCALE).astype(np.int8)
    return limited.tobytes()


def fewer_bins(peaks: bytes, bins: int) -> tuple[list[int], list[int]]:
    """(minima, maxima) of at most ``bins`` bins; 127 is full scale."""
    pairs = np.frombuffer(peaks, np.int8).reshape(-1, 2)
    bins = min(bins, len(pairs))
    starts = np.arange(bins) * len(pairs) // bins
    low, high = np.minimum.reduceat(pairs[:, 0], starts), np.maximum.reduceat(pairs[:, 1], starts)
    return low.tolist(), high.tolist()
