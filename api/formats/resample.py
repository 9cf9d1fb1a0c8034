"""Sample rate conversion of a stream, with an exact number of samples."""

from __future__ import annotations

import numpy as np
import soxr

from api.formats.base import FloatSamples


def resampled_length(total_samples: int, from_hz: int, to_hz: int) -> int:
    """Samples after conversion: rounded to nearest, halves up."""
    return (2 * total_samples * to_hz + from_hz) // (2 * from_hz)


def resampled(samples: FloatSamples, from_hz: int, to_hz: int) -> FloatSamples:
    """All of it at once, ``[n, channels]``; itself where the rates are one."""
    if from_hz == to_hz:
        return samples
    resampler = Resampler(from_hz, to_hz, samples.shape[1], len(samples))
    return np.concatenate((resampler.push(samples), resampler.finish()))


class Resampler:
    """soxr at its very high quality. The output does not depend on how the input is cut.

    Args:
        total_samples: of the whole input, per channel.
    """

    def __init__(self, from_hz: int, to_hz: int, channels: int, total_samples: int) -> None:
        self._stream = soxr.ResampleStream(from_hz, to_hz, channels, dtype="float32", quality="VHQ")
        self._channels = channels
        self._missing = resampled_length(total_samples, from_hz, to_hz)

    def push(self, samples: FloatSamples) -> FloatSamples:
        """What is final after these samples; may be empty."""
        return self._take(self._stream.resample_chunk(np.ascontiguousarray(samples, dtype=np.float32)))

    def finish(self) -> FloatSamples:
        """The rest, cut or filled up with silence to the exact length (soxr rounds in its own way, by one)."""
        end = self._take(self._stream.resample_chunk(np.zeros((0, self._channels), np.float32), last=True))
        silence = np.zeros((self._missing, self._channels), np.float32)
        self._missing = 0
        return np.concatenate((end, silence))

    def _take(self, samples: FloatSamples) -> FloatSamples:
        taken = samples[: self._missing].reshape(-1, self._channels)
        self._missing -= len(taken)
        return taken
