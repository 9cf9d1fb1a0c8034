"""One query per row against that row's own positions of an arena: one function, three backends, equal within rounding.

    arena, per layer K and V [H, P, Dh]:   |row a ········|row c ····|  gap  |row b ··············|  gap  |
                                            start a        start c            start b

Rows differ in length; a row of length 0 attends to nothing and gets zeros (rows that only fill a batch up, and the null
row of guidance, whose text is nothing). Shapes and addresses depend on no value, so every backend may be captured in a
CUDA graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from models.engine_config import ATTENTION_BACKENDS

if TYPE_CHECKING:
    from models.kernels.triton.decode_attention import Workspace

LARGEST_INT8 = 127


@dataclass(frozen=True, slots=True)
class LayerKV:
    """Keys and values of one layer, of all rows.

    8-bit KV is int8 with one scale per head and position, not float8 e4m3. Keys and values of one head are spread like
    a bell: int8 with its own scale is wrong by 0.6 % of their size, e4m3's three bits of mantissa by 2.6 % (rms, 64
    dimensions; `test_int8_is_closer_than_float8`), for 2 bytes more per 64. It also needs no particular GPU.

    Attributes:
        keys, values: [H, P, Dh], of a floating type, or int8.
        scales: float16 [2, H, P] of keys and of values if they are int8, else None; a stored number times its
            scale is the number.
    """

    keys: Tensor
    values: Tensor
    scales: Tensor | None = None

    def __post_init__(self) -> None:
        assert self.keys.shape == self.values.shape, "keys and values differ in shape: this is a bug"
        is_int8 = self.keys.dtype == torch.int8
        assert is_int8 == (self.scales is not None), "int8 has scales, nothing else has: this is a bug"

    def write(self, keys_values: Tensor, places: Tensor) -> None:
        """Store one new position per row.

        Args:
            keys_values: [R, 2, H, Dh]
            places: int64 [R], positions in the arena; of rows that share one, any is stored.
        """
        new = keys_values.permute(1, 2, 0, 3)  # [2, H, R, Dh]
        if self.scales is not None:
            new, scales = quantise(new)
            self.scales.index_copy_(2, places, scales)
        self.keys.index_copy_(1, places, new[0].to(self.keys.dtype))
        self.values.index_copy_(1, places, new[1].to(self.values.dtype))


def quantise(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers [..., Dh] as int8 [..., Dh] and scales float16 [...]; a vector's largest number becomes ±127."""
    exact = numbers.float()
    scales = (exact.abs().amax(-1) / LARGEST_INT8).half()
    # A vector of zeros has scale 0, and so has one too small for it; 1 in its place leaves zeros.
    divisor = torch.where(scales == 0, 1.0, scales.float())[..., None]
    return (exact / divisor).round_().clamp_(-LARGEST_INT8, LARGEST_INT8).to(torch.int8), scales


def check_backend(backend: str, head_dim: int) -> None:
    """Whether this machine can run that backend; at start-up, not in the first request.

    Raises:
        ValueError: it does not exist, or does not do this head dimension.
        ImportError: its package is missing; the message says which and how to do without.
    """
    if backend not in ATTENTION_BACKENDS:
        raise ValueError(f"attention must be one of {', '.join(ATTENTION_BACKENDS)}, got {backend!r}")
    if backend == "triton":
        from models.kernels.triton.decode_attention import check_head_dim

        check_head_dim(head_dim)
    if backend == "xformers":
        from models.kernels.xformers_attention import require_xformers

        require_xformers()


def decode_attention(
    query: Tensor,
    kv: LayerKV,
    starts: Tensor,
    lengths: Tensor,
    *,
    backend: str,
    longest: int,
    workspace: Workspace | None = None,
) -> Tensor:
    """softmax(q · kᵀ / √Dh) · v of each row over its own positions.

    Args:
        query: [R, H, Dh], the last two dimensions dense.
        kv: where the keys and values lie.
        starts: int32 [R], each row's first position.
        lengths: int32 [R], how many of them there are; 0 gives zeros.
        backend: one of `ATTENTION_BACKENDS`.
        longest: no length is above it; a number and not a tensor, so that nobody waits for the device.
        workspace: room for partial results (``triton`` only); made anew if there is none.

    Returns:
        [R, H · Dh] of the query's type.

    Raises:
        ValueError, ImportError: as `check_backend`.
    """
    if backend == "triton":
        from models.kernels.triton.decode_attention import attend

        return attend(query, kv, starts, lengths, longest=longest, workspace=workspace)
    if backend == "xformers":
        from models.kernels.xformers_attention import attend_xformers

        return attend_xformers(query, kv, starts, lengths, longest=longest)
    if backend == "sdpa":
        return _attend_sdpa(query, kv, starts, lengths, longest)
    raise ValueError(f"attention must be one of {', '.join(ATTENTION_BACKENDS)}, got {backend!r}")


def _attend_sdpa(query: Tensor, kv: LayerKV, starts: Tensor, lengths: Tensor, longest: int) -> Tensor:
    """torch alone: every row is copied out of the arena at the longest length, and masked beyond its own."""
    steps = torch.arange(longest, device=query.device)
    # Beyond its end a row repeats its last position, so that what nobody has written is never read.
    inside = torch.minimum(steps[None, :], (lengths[:, None] - 1).clamp_(min=0))  # [R, L]
    places = (starts[:, None] + inside).flatten()
    keys, values = (_gathered(kv, part, places, query) for part in (0, 1))  # [R, H, L, Dh]
    mask = steps[None, :] < lengths[:, None]
    out = F.scaled_dot_product_attention(query[:, :, None], keys, values, attn_mask=mask[:, None, None, :])
    return torch.where(lengths[:, None] > 0, out.flatten(1), 0.0).to(query.dtype)


def _gathered(kv: LayerKV, part: int, places: Tensor, query: Tensor) -> Tensor:
    rows, heads, dim = query.shape
    stored = (kv.keys, kv.values)[part].index_select(1, places).to(query.dtype)  # [H, R · L, Dh]
    if kv.scales is not None:
        stored = stored * kv.scales[part].index_select(1, places)[..., None].to(query.dtype)
    return stored.view(heads, rows, -1, dim).transpose(0, 1)


def softmax_scale(head_dim: int) -> float:
    """1 / √Dh"""
    return 1 / math.sqrt(head_dim)
