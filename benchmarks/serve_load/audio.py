"""Is what came music? Looked at piece by piece, as it comes, so that nothing has to be kept."""

from __future__ import annotations

import numpy as np

SILENCE = 8  # of 32,768: below that nobody hears a thing
MAX_CLIPPED = 0.01
_FULL_SCALE = 32_767


class PcmCheck:
    """Interleaved 16-bit samples, in pieces that may end anywhere.

    Args:
        channels: 1 or 2.
        total_samples: that the track should have, per channel.
    """

    def __init__(self, channels: int, total_samples: int) -> None:
        self._frame_bytes = 2 * channels
        self._due = total_samples
        self._values_due = total_samples * channels
        self._rest = b""
        self._clipped = 0
        self._peak = 0
        self.samples = 0

    def take(self, data: bytes) -> int:
        """One more piece.

        Returns:
            How many more samples, per channel, are whole now.
        """
        data = self._rest + data
        whole = len(data) // self._frame_bytes
        self._rest = data[whole * self._frame_bytes :]
        if whole:
            values = np.frombuffer(data, "<i2", whole * self._frame_bytes // 2)
            high, low = int(values.max()), int(values.min())
            self._peak = max(self._peak, high, -low)
            if high >= _FULL_SCALE or low <= -_FULL_SCALE:
                self._clipped += int(np.count_nonzero((values >= _FULL_SCALE) | (values <= -_FULL_SCALE)))
        self.samples += whole
        return whole

    @property
    def is_valid(self) -> bool:
        """Of the whole track. What is 16-bit is finite."""
        has_all = self.samples == self._due and not self._rest
        return has_all and self._peak >= SILENCE and self._clipped < MAX_CLIPPED * self._values_due
