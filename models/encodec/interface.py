"""What a codec's decoder does, whoever computes it: torch (`EncodecDecoder`) or our kernel (`CpuEncodecDecoder`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from models.config import CodecConfig

# A whole clip is decoded in steps of this many frames: memory stays bounded and rows stay in the cache.
_DECODE_STEP_FRAMES = 128


class Codec(ABC):
    """Codes to samples. It holds weights only, so any number of streams may share it.

    A state is immutable and of a type of the codec's own, with ``shape_key()``, ``split()`` and a static
    ``merge(states)``: see `models.encodec.state.DecoderState`.

    Attributes:
        config: the codec's geometry.
        lookahead_frames: whole frames that must follow a frame before it is final.
    """

    config: CodecConfig
    lookahead_frames: int

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Of the weights."""

    @abstractmethod
    def fresh_state(self, batch: int = 1) -> Any:
        """The state before the first frame of ``batch`` clips."""

    @abstractmethod
    def step(self, codes: Tensor, state: Any, last: bool) -> tuple[Tensor, Any]:
        """Decode the next frames of B streams that stand at like places (states of equal ``shape_key``).

        Args:
            codes: int64 [B, K, n >= 1], checked by the caller.
            last: these are the last frames of their clips.

        Returns:
            [B, hop * m] samples: the whole frames that became final; and the next state.
        """

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode whole clips. int64 [B, K, F >= 1] -> [B, 1, F * hop], float32 (float64 for float64 weights).

        Raises:
            ValueError: codes of the wrong shape or out of range.
        """
        self.check_codes(codes)
        state, samples = self.fresh_state(codes.shape[0]), []
        for start in range(0, codes.shape[2], _DECODE_STEP_FRAMES):
            last = start + _DECODE_STEP_FRAMES >= codes.shape[2]
            piece, state = self.step(codes[:, :, start : start + _DECODE_STEP_FRAMES], state, last)
            samples.append(piece)
        return to_samples(torch.cat(samples, 1)[:, None])

    def check_codes(self, codes: Tensor) -> None:
        """Refuse codes that are not [B, K, n >= 1] in the codebooks' range (the special token is not a code).

        Raises:
            ValueError: saying what is wrong with them.
        """
        wanted = self.config.num_quantizers
        if codes.dim() != 3 or codes.shape[1] != wanted or codes.shape[2] < 1 or codes.is_floating_point():
            raise ValueError(
                f"codes must be integers [B, {wanted}, frames >= 1], got {codes.dtype} {list(codes.shape)}"
            )
        low, high = (int(bound) for bound in codes.aminmax())
        if low < 0 or high >= self.config.codebook_size:
            raise ValueError(f"codes must be in [0, {self.config.codebook_size}), got {low} … {high}")


def to_samples(samples: Tensor) -> Tensor:
    """Samples leave in single precision at least, whatever the weights' type."""
    return samples if samples.dtype == torch.float64 else samples.float()
