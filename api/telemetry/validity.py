"""Whether what goes out is audio at all: the right number of samples, not silence, not clipped. One look per piece."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FULL_SCALE = 32_767
MAX_CLIPPED_SHARE = 0.01


class Validity:
    """Of one track of 16-bit samples. (Samples that are not finite never become any: their generation fails.)

    Attributes:
        samples: of all channels together.
        clipped: samples at full scale.
        silent: every sample so far was 0.
    """

    __slots__ = ("clipped", "samples", "silent")

    def __init__(self) -> None:
        self.samples = 0
        self.clipped = 0
        self.silent = True

    def add(self, samples: npt.NDArray[np.int16]) -> None:
        """The next samples, in any shape."""
        if samples.size == 0:
            return
        self.samples += samples.size
        # Two reductions; the third is only for pieces that touch full scale.
        high, low = int(samples.max()), int(samples.min())
        if high or low:
            self.silent = False
        if high >= FULL_SCALE or low <= -FULL_SCALE:
            self.clipped += int(np.count_nonzero((samples >= FULL_SCALE) | (samples <= -FULL_SCALE)))

    def holds(self, due: int) -> bool:
        """Whether this is a whole track of ``due`` samples (of all channels together)."""
        return self.samples == due and not self.silent and self.clipped < MAX_CLIPPED_SHARE * due
