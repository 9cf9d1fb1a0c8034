"""How loud a track is, and the gain that brings it to a wanted loudness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from api.formats.base import FloatSamples

PEAK_LIMIT_DBFS = -1.0
_BLOCK_S = 0.4  # the shortest audio that has a loudness


def load_meter() -> None:
    """Import what measures, for a thread: the first track need not wait for it."""
    import pyloudnorm  # noqa: F401


def integrated_loudness(samples: FloatSamples, sample_rate: int) -> float | None:
    """Gated loudness in LUFS by ITU-R BS.1770-4; None for silence and for less than 0.4 s, which have none."""
    if len(samples) < math.ceil(_BLOCK_S * sample_rate):
        return None
    # Brings scipy's filters: seconds that only a worker pays.
    import pyloudnorm

    loudness = float(pyloudnorm.Meter(sample_rate).integrated_loudness(np.asarray(samples, np.float64)))
    return loudness if math.isfinite(loudness) else None


@dataclass(frozen=True, slots=True)
class Gain:
    """One factor for a whole track: dynamics stay as they are.

    Attributes:
        db: what is added, in dB.
        loudness_lufs: what the track has afterwards; None if it has no loudness, and then nothing is added.
        is_limited: the peak limit was reached first, so the track stays below the wanted loudness.
    """

    db: float
    loudness_lufs: float | None
    is_limited: bool

    @property
    def factor(self) -> np.float32:
        return np.float32(10 ** (self.db / 20))


def gain_to(target_lufs: float, loudness_lufs: float | None, peak: float) -> Gain:
    """The gain that brings a track to ``target_lufs`` with its samples below -1 dBFS.

    Args:
        loudness_lufs: the track's own.
        peak: its largest sample, as a magnitude.
    """
    if loudness_lufs is None or peak <= 0:
        return Gain(0.0, loudness_lufs, is_limited=False)
    wanted, allowed = target_lufs - loudness_lufs, PEAK_LIMIT_DBFS - 20 * math.log10(peak)
    db = min(wanted, allowed)
    return Gain(db, loudness_lufs + db, is_limited=allowed < wanted)
