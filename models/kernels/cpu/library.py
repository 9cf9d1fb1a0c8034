"""The compiled kernel as Python sees it: the structures of ``step.cpp``, field by field, and its functions."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_char_p, c_int32, c_int64, c_void_p
from functools import cache

import torch
from torch import Tensor

from models.kernels.cpu.build import KernelUnavailableError, build
from models.kernels.cpu.packing import FORMATS, GROUP, PackedMatrix

BLOCK = 16
"""Positions of keys that lie together; a row's region starts at a multiple of it."""


class Norm(Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class Matrix(Structure):
    _fields_ = [
        ("format", c_int32),
        ("outputs", c_int32),
        ("inputs", c_int32),
        ("group", c_int32),
        ("data", c_void_p),
        ("scales", c_void_p),
    ]


class Layer(Structure):
    _fields_ = [
        *((name, Norm) for name in ("self_norm", "cross_norm", "ffn_norm")),
        *((name, Matrix) for name in ("qkv", "self_out", "cross_query", "cross_kv", "cross_out", "up", "down")),
        ("keys", c_void_p),
        ("values", c_void_p),
    ]


class Model(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("num_layers", "width", "num_heads", "ffn_dim", "num_codebooks", "vocab_size")),
        ("narrow_kv", c_int32),
        ("narrow_embedding", c_int32),
        ("positions", c_int64),
        ("embedding", c_void_p),
        ("sinusoid", c_void_p),
        ("final_norm", Norm),
        ("heads", Matrix),
        ("layers", POINTER(Layer)),
    ]


class Batch(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("rows", "conditioned", "threads", "scratch_positions")),
        *(
            (name, c_void_p)
            for name in (
                "codes",
                "positions",
                "starts",
                "conditioned_rows",
                "text_keys",
                "text_values",
                "text_tokens",
                "hidden",
                "narrow",
                "wide",
                "scratch",
                "logits",
            )
        ),
    ]


@cache
def load() -> ctypes.CDLL:
    """The kernel, compiled if need be.

    Raises:
        KernelUnavailableError: saying why it can not run here.
    """
    try:
        library = ctypes.CDLL(str(build()))
    except OSError as error:
        raise KernelUnavailableError(f"the compiled CPU kernel can not be loaded: {error}") from error
    library.tutti_path.restype = c_char_p
    library.tutti_step.argtypes = [c_void_p, c_void_p]
    library.tutti_step.restype = None
    library.tutti_multiply.argtypes = [c_void_p, c_void_p, c_int32, c_void_p, c_void_p, c_int32]
    library.tutti_multiply.restype = None
    library.tutti_store_text.argtypes = [c_void_p, c_int32, c_int32, c_int32, c_int32, c_void_p, c_void_p]
    library.tutti_store_text.restype = None
    return library


def path() -> str:
    """Which code the kernel was compiled to: "avx512_bf16", or "portable" vectors."""
    name: bytes = load().tutti_path()
    return name.decode()


def why_unavailable() -> str | None:
    """None where the kernel runs."""
    try:
        load()
    except KernelUnavailableError as error:
        return str(error)
    return None


def matrix_of(packed: PackedMatrix) -> Matrix:
    """The kernel's view; valid as long as ``packed`` is."""
    scales = packed.scales.data_ptr() if packed.scales.numel() else None
    return Matrix(FORMATS[packed.name], packed.outputs, packed.inputs, GROUP, packed.data.data_ptr(), scales)


def multiply(packed: PackedMatrix, x: Tensor) -> Tensor:
    """float32 [rows, inputs] times a packed matrix: float32 [rows, outputs]."""
    x = x.float().contiguous()
    out, narrow = torch.empty(len(x), packed.outputs), torch.empty(len(x), packed.inputs)
    matrix = matrix_of(packed)
    load().tutti_multiply(
        byref(matrix), x.data_ptr(), len(x), narrow.data_ptr(), out.data_ptr(), torch.get_num_threads()
    )
    return out


def store_text(keys_values: Tensor, heads: int, keys: Tensor, values: Tensor) -> None:
    """Write one layer's keys and values of a text, float32 [T, 2 · D], in the kernel's order.

    Args:
        keys, values: of the cache's type, each D · (T rounded up to a block) numbers.
    """
    keys_values = keys_values.contiguous()
    tokens, width = len(keys_values), keys_values.shape[1] // 2
    narrow = keys.dtype != torch.float32
    load().tutti_store_text(
        keys_values.data_ptr(), tokens, heads, width // heads, narrow, keys.data_ptr(), values.data_ptr()
    )
