"""Reads the codec's tensors under their transformers names, and accounts for every one of them.

Weight normalisation is a training device: ``weight = g * v / ||v||`` is folded here, once. Three spellings of
it exist in checkpoints: torch's parametrisation, the older ``weight_g`` / ``weight_v``, and already folded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from models.errors import CheckpointError

# Not needed to decode: the encoder, and the running statistics with which the codebooks were learned.
_NOT_FOR_DECODING = re.compile(r"encoder\..*|quantizer\.layers\.\d+\.codebook\.(cluster_size|embed_avg|inited)")

_WEIGHT_NORM_SPELLINGS = (
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ("weight_g", "weight_v"),
)


class WeightReader:
    """Hands out tensors by name, once each.

    Args:
        state: tensors by their names below ``audio_encoder.``.
        dtype: floating type in which weights are folded and returned.
    """

    def __init__(self, state: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        self._state = state
        self._dtype = dtype
        # A norm over thousands of numbers is not for half precision.
        self._folding_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self._taken: set[str] = set()

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of that name.

        Raises:
            CheckpointError: it is missing, has another shape, or holds no finite floating-point numbers.
        """
        return self._finished(name, self._take(name, shape))

    def take_convolution(self, prefix: str, shape: tuple[int, int, int]) -> Tensor:
        """The weight of a (transposed) convolution in torch's layout, weight normalisation folded in."""
        for gain, direction in _WEIGHT_NORM_SPELLINGS:
            if f"{prefix}.{gain}" in self._state or f"{prefix}.{direction}" in self._state:
                g = self._take(f"{prefix}.{gain}", (shape[0], 1, 1)).to(self._folding_dtype)
                v = self._take(f"{prefix}.{direction}", shape).to(self._folding_dtype)
                folded: Tensor = g * v / torch.linalg.vector_norm(v, dim=(1, 2), keepdim=True)
                return self._finished(f"{prefix}.weight", folded)
        return self.take(f"{prefix}.weight", shape)

    def finish(self) -> None:
        """Check that nothing is left over.

        Raises:
            CheckpointError: naming the first tensors that no part of the decoder asked for.
        """
        left = sorted(name for name in set(self._state) - self._taken if not _NOT_FOR_DECODING.fullmatch(name))
        if left:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            names = ", ".join(f"audio_encoder.{name}" for name in left[:3])
            raise CheckpointError(f"the checkpoint holds tensors that its codec config has no place for: {names}{more}")

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._state.get(name)
        if tensor is None:
            raise CheckpointError(f"the checkpoint has no tensor audio_encoder.{name}, which its config calls for")
        if tuple(tensor.shape) != shape:
            raise CheckpointError(f"audio_encoder.{name} has shape {tuple(tensor.shape)}, its config calls for {shape}")
        self._taken.add(name)
        return tensor

    def _finished(self, name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise CheckpointError(f"audio_encoder.{name} must hold finite floating-point numbers ({tensor.dtype})")
        return tensor.to(self._dtype)
