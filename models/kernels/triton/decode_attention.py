"""Decode attention in Triton: each row is cut into parts of a fixed size, and these are added up in order.

The size of a part is fixed, and a row's parts are reduced first to last, so a row's result depends on nothing but the
row: not on the batch, not on the bucket, not on which part was done first. Nothing beyond a row's length is read.

    grid (row, head, part):  |part 0|part 1|part 2|..   -> (maximum, sum, weighted values) each, float32
    the part that is done last adds all of them up (or a second kernel does)

Key and value of a row's last position may come from the projection: the part that holds it then writes them into the
arena itself, 8-bit or not, so that no kernel of its own does it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.kernels.decode_attention import LayerKV, softmax_scale
from models.kernels.triton.attention_kernels import attend_part, reduce_parts
from models.kernels.triton.compiler import cdiv

SPLIT = 128
"""Positions in a part. One guided stream of musicgen-small is 32 heads × rows: parts must be small to fill a GPU."""
_BLOCK = 64
_WARPS = 4
_LOG2_E = 1.4426950408889634
_SMALLEST_DIM = 8


@dataclass(frozen=True, slots=True)
class Workspace:
    """Room for partial results of up to R rows, kept between calls.

    Attributes:
        sums: float32 [R, H, parts, Dh]
        stats: float32 [R, H, parts, 2]: the maximum, and the sum of exponentials.
        done: int32 [R, H]: parts that are finished; 0 between calls.
    """

    sums: Tensor
    stats: Tensor
    done: Tensor

    @classmethod
    def of(cls, rows: int, heads: int, head_dim: int, longest: int, device: torch.device | str) -> Workspace:
        parts = cdiv(longest, SPLIT)
        return cls(
            torch.empty(rows, heads, parts, head_dim, device=device),
            torch.empty(rows, heads, parts, 2, device=device),
            torch.zeros(rows, heads, dtype=torch.int32, device=device),
        )


def check_head_dim(head_dim: int) -> None:
    """
    Raises:
        ValueError: the kernel does not do this head dimension.
    """
    if head_dim < _SMALLEST_DIM or head_dim & (head_dim - 1):
        raise ValueError(f"attention 'triton' needs a power of two of at least 8 per head, got {head_dim}: use 'sdpa'")


def attend(
    query: Tensor,
    kv: LayerKV,
    starts: Tensor,
    lengths: Tensor,
    *,
    longest: int,
    new: Tensor | None = None,
    workspace: Workspace | None = None,
    one_launch: bool = True,
) -> Tensor:
    """See `models.kernels.decode_attention.decode_attention`.

    Args:
        new: [R, 2, H, Dh], key and value of each row's last position, in one piece with the query: written to the
            arena as by `LayerKV.write`, in the same kernel. Where the length is 0 nothing is.
        one_launch: the part that ends last adds up, instead of a second kernel; the order is the same.
    """
    rows, heads, dim = query.shape
    check_head_dim(dim)
    _check_layout(query, new, kv)
    workspace = workspace or Workspace.of(rows, heads, dim, longest, query.device)
    parts = cdiv(longest, SPLIT)
    assert workspace.sums.shape[2] == parts, "the workspace is of another length: this is a bug"
    out = torch.empty(rows, heads * dim, dtype=query.dtype, device=query.device)
    # Pointers that are not followed where there is nothing: a kernel has no None.
    new_keys, new_values = (query, query) if new is None else new.unbind(1)
    scales = kv.keys if kv.scales is None else kv.scales
    tensors = (query, new_keys, new_values, kv.keys, kv.values, scales, starts, lengths)
    strides = (query.stride(0), kv.keys.stride(0), kv.keys.shape[1], heads * kv.keys.shape[1])
    attend_part[(rows, heads, parts)](
        *tensors,
        workspace.sums,
        workspace.stats,
        workspace.done,
        out,
        *strides,
        heads,
        parts,
        softmax_scale(dim) * _LOG2_E,
        DIM=dim,
        SPLIT=SPLIT,
        BLOCK=_BLOCK,
        INT8=kv.scales is not None,
        STORE=new is not None,
        REDUCE=one_launch,
        num_warps=_WARPS,
    )
    if not one_launch:
        sums, stats = workspace.sums, workspace.stats
        reduce_parts[(rows, heads)](lengths, sums, stats, out, heads, parts, DIM=dim, SPLIT=SPLIT, num_warps=1)
    return out


def _check_layout(query: Tensor, new: Tensor | None, kv: LayerKV) -> None:
    """What the kernels take for granted."""
    for vectors in (query,) if new is None else (query, *new.unbind(1)):
        assert vectors.stride() == (query.stride(0), query.shape[2], 1), "heads are not dense: this is a bug"
    for arena in (kv.keys, kv.values):
        assert arena.is_contiguous(), "an arena is one piece: this is a bug"
