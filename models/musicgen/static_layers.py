"""What surrounds attention in a layer, in torch's kernels or in ours: two operators, because a layer needs no more.

project    LayerNorm, a product, GELU if asked for         -> what attention or the feed-forward takes
add        a product, added to the hidden state
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor

Norm = tuple[Tensor, Tensor]
"""Weight and bias of a LayerNorm, each [D]."""

_EPSILON = 1e-5


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
    def project(self, hidden: Hidden, norm: Norm, weight: Tensor, gelu: bool = False) -> Tensor:
        """GELU?(LayerNorm(hidden) · Wᵀ): [R, O]"""

    @abstractmethod
    def add(self, hidden: Hidden, inputs: Tensor, weight: Tensor) -> None:
        """hidden += inputs · Wᵀ, now or when it is read next."""


class TorchOperators(LayerOperators):
    """One torch kernel for each thing that happens."""

    def project(self, hidden: Hidden, norm: Norm, weight: Tensor, gelu: bool = False) -> Tensor:
        width = hidden.residual.shape[1]
        product = F.linear(F.layer_norm(hidden.residual, (width,), *norm, _EPSILON), weight)
        return F.gelu(product) if gelu else product

    def add(self, hidden: Hidden, inputs: Tensor, weight: Tensor) -> None:
        hidden.residual = hidden.residual + F.linear(inputs, weight)


class TritonOperators(LayerOperators):
    """Few rows: everything inside the product. Many rows: cuBLAS for the product, sum and norm in one kernel."""

    def __init__(self) -> None:
        from models.kernels.triton import layers

        self._kernels = layers

    def project(self, hidden: Hidden, norm: Norm, weight: Tensor, gelu: bool = False) -> Tensor:
        rows, kernels = len(hidden.residual), self._kernels
        if rows <= kernels.NORM_INSIDE_ROWS:
            return cast(Tensor, kernels.skinny_linear(hidden.residual, weight, norm=norm, gelu=gelu))
        normal = kernels.add_norm(hidden.residual, hidden.update, *norm)
        hidden.update = None
        if rows <= kernels.SKINNY_ROWS:
            return cast(Tensor, kernels.skinny_linear(normal, weight, gelu=gelu))
        product = F.linear(normal, weight)
        return F.gelu(product) if gelu else product

    def add(self, hidden: Hidden, inputs: Tensor, weight: Tensor) -> None:
        if len(hidden.residual) <= self._kernels.SKINNY_ROWS:
            self._kernels.skinny_linear(inputs, weight, residual=hidden.residual)
        else:
            hidden.update = F.linear(inputs, weight)
