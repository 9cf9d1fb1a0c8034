"""The one place that imports Triton: says what to do without it, and spares the kernels their type comments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
except ImportError as error:  # torch for CUDA brings it; torch for CPUs does not
    raise ImportError(
        "the triton package is missing: install it (torch for CUDA brings it), "
        "or choose attention 'sdpa' and kernels 'torch'"
    ) from error

__all__ = ["cdiv", "jit", "next_power_of_2", "tl"]


def jit(function: Callable[..., None]) -> Any:
    """``triton.jit``: compiled at the first launch, or interpreted where ``TRITON_INTERPRET=1`` was set before."""
    return triton.jit(function)


def cdiv(total: int, size: int) -> int:
    """How many pieces of that size cover the total."""
    return -(-total // size)


def next_power_of_2(number: int) -> int:
    """The smallest power of two that is not below; shapes in Triton are powers of two."""
    return 1 << max(0, number - 1).bit_length()
