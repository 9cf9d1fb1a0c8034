"""xformers' split-k decode attention (pure Triton, per-row key lengths) behind our function; no more of it is used.

Read in xformers 0.0.35: its ``triton_splitk`` takes starts and lengths as device tensors with a gappy mask, so nothing
waits for the device. Its compiled kernels load with one version of torch only, this operator with any.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from torch import Tensor

from models.kernels.decode_attention import LayerKV

_SPLIT_POSITIONS = 128
_LARGEST_SPLIT = 16


def require_xformers() -> Any:
    """The package's ``ops.fmha``.

    Raises:
        ImportError: it is not installed, saying what to do.
    """
    try:
        return importlib.import_module("xformers.ops.fmha")
    except ImportError as error:
        raise ImportError(
            "attention 'xformers' needs the xformers package, which is not installed here: "
            "pip install --no-deps xformers, or choose 'triton' or 'sdpa'"
        ) from error


def attend_xformers(query: Tensor, kv: LayerKV, starts: Tensor, lengths: Tensor, *, longest: int) -> Tensor:
    """See `models.kernels.decode_attention.decode_attention`; a fixed number of splits, chosen by ``longest`` alone."""
    fmha = require_xformers()
    splits = min(_LARGEST_SPLIT, 1 << max(0, math.ceil(longest / _SPLIT_POSITIONS) - 1).bit_length())
    operator = getattr(importlib.import_module("xformers.ops.fmha.triton_splitk"), f"FwOp_S{splits}")
    # [H, P, Dh] seen as [1, P, H, Dh]: one long sequence in which every row is a piece.
    keys, values = (part.transpose(0, 1)[None] for part in _unquantised(kv, query.dtype))
    bias = _gappy_mask(importlib.import_module("xformers.ops.fmha.attn_bias"), starts, lengths, longest)
    out = fmha.memory_efficient_attention_forward(query[None], keys, values, attn_bias=bias, op=operator)
    return torch.where(lengths[:, None] > 0, out[0].flatten(1), 0.0).to(query.dtype)


def _gappy_mask(bias: Any, starts: Tensor, lengths: Tensor, longest: int) -> Any:
    """Built field by field: its own constructor takes lists, that is, waits for the device.

    The lists in it serve checks of the number of queries and error messages; the kernel reads the tensors.
    """
    rows = len(starts)
    queries = torch.arange(rows + 1, dtype=torch.int32, device=starts.device)
    ends = torch.cat([starts, starts[-1:]])
    return bias.BlockDiagonalGappyKeysMask(
        q_seqinfo=bias._SeqLenInfo(seqstart=queries, max_seqlen=1, min_seqlen=1, seqstart_py=list(range(rows + 1))),
        k_seqinfo=bias._GappySeqInfo(
            seqstart=ends,
            max_seqlen=longest,
            min_seqlen=0,
            seqstart_py=[0] * (rows + 1),
            seqlen=lengths,
            seqlen_py=[longest] * rows,
        ),
    )


def _unquantised(kv: LayerKV, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Keys and values [H, P, Dh] in that type: a copy of the whole layer if they are int8."""
    if kv.scales is None:
        return kv.keys.to(dtype), kv.values.to(dtype)
    scales = kv.scales[..., None].to(dtype)
    return kv.keys.to(dtype) * scales[0], kv.values.to(dtype) * scales[1]
