"""What surrounds attention in a layer, in torch's kernels or in ours: two operators, because a layer needs no more.

project    LayerNorm, a product, GELU if asked for         -> what attention or the feed-forward takes
add        a product, added to the hidden state
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.kernels.cpu.packing import quantise

Norm = tuple[Tensor, Tensor]
"""Weight and bias of a LayerNorm, each [D]."""

_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight of a product.

    Attributes:
        numbers: [O, I], of the model's type, or int8.
        scales: float32 [O] if they are int8, else None; a stored number times its output's scale is the weight.
    """

    numbers: Tensor
    scales: Tensor | None = None

    @classmethod
    def of(cls, weight: Tensor, dtype: torch.dtype, weights: str) -> Matrix:
        """Args: weights: ``model`` or ``int8``, see `models.engine_config.STATIC_WEIGHTS`."""
        if weights == "model":
            return cls(weight.to(dtype))
        rounded = quantise(weight, "int8")
        return cls(rounded.levels, rounded.scales[:, 0].contiguous())

    def product(self, inputs: Tensor) -> Tensor:
        """x · Wᵀ, by torch: int8 is made the inputs' type first, and scaled after."""
        if self.scales is None:
            return F.linear(inputs, self.numbers)
        return (F.linear(inputs, self.numbers.to(inputs.dtype)) * self.scales).to(inputs.dtype)


@dataclass(slots=True)
class Hidden:
    """The hidden state [R, D] of one step, and what is still to be added to it, if a norm reads it anyway."""

    residual: Tensor
    update: Tensor | None = None


class LayerOperators(ABC):
    """How the two are computed; stateless."""

    @staticmethod
    def of(layers: str) -> LayerOperators:
        """
        Raises:
            ImportError: Triton is asked for and not installed.
        """
        return TritonOperators() if layers == "triton" else TorchOperators()

    @abstractmethod
    def project(self, hidden: Hidden, norm: Norm, weight: Matrix, gelu: bool = False) -> Tensor:
        """GELU?(LayerNorm(hidden) · Wᵀ): [R, O]"""

    @abstractmethod
    def add(self, hidden: Hidden, inputs: Tensor, weight: Matrix) -> None:
        """hidden += inputs · Wᵀ, now or when it is read next."""


class TorchOperators(LayerOperators):
    """One torch kernel for each thing that happens."""

    def project(self, hidden: Hidden, norm: Norm, weight: Matrix, gelu: bool = False) -> Tensor:
        width = hidden.residual.shape[1]
        product = weight.product(F.layer_norm(hidden.residual, (width,), *norm, _EPSILON))
        return F.gelu(product) if gelu else product

    def add(self, hidden: Hidden, inputs: Tensor, weight: Matrix) -> None:
        hidden.residual = hidden.residual + weight.product(inputs)


class TritonOperators(LayerOperators):
    """Few rows: everything inside the product. Many rows: cuBLAS for the product, sum and norm in one kernel.

    Weights in int8 are read by our product at any number of rows: cuBLAS would need a copy in another type.
    """

    def __init__(self) -> None:
        from models.kernels.triton import layers

        self._kernels = layers

    def project(self, hidden: Hidden, norm: Norm, weight: Matrix, gelu: bool = False) -> Tensor:
        rows = len(hidden.residual)
        if rows <= self._kernels.NORM_INSIDE_ROWS:
            return self._skinny(hidden.residual, weight, norm=norm, gelu=gelu)
        normal = self._kernels.add_norm(hidden.residual, hidden.update, *norm)
        hidden.update = None
        if self._is_skinny(rows, weight):
            return self._skinny(normal, weight, gelu=gelu)
        product = F.linear(normal, weight.numbers)
        return F.gelu(product) if gelu else product

    def add(self, hidden: Hidden, inputs: Tensor, weight: Matrix) -> None:
        if self._is_skinny(len(hidden.residual), weight):
            self._skinny(inputs, weight, residual=hidden.residual)
        else:
            hidden.update = F.linear(inputs, weight.numbers)

    def _is_skinny(self, rows: int, weight: Matrix) -> bool:
        return weight.scales is not None or rows <= self._kernels.SKINNY_ROWS

    def _skinny(self, inputs: Tensor, weight: Matrix, **around: Any) -> Tensor:
        return self._kernels.skinny_linear(inputs, weight.numbers, scales=weight.scales, **around)
