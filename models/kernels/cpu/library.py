"""The compiled kernel as Python sees it: the structures of ``step.cpp``, field by field, and its functions."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_char_p, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from models.kernels.cpu.build import KernelUnavailableError, build, chosen_variant
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
        *((name, c_int32) for name in ("rows", "conditioned", "threads", "scratch_positions", "sampled", "sharing")),
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
                "given",
                "given_lines",
            )
        ),
    ]


class Kernel:
    """The compiled kernel.

    Args:
        file: shared library made by `build`.

    Raises:
        KernelUnavailableError: it can not be loaded.
    """

    def __init__(self, file: Path) -> None:
        try:
            library = ctypes.CDLL(str(file))
        except OSError as error:
            hint = "delete the file, it is made anew"
            raise KernelUnavailableError(f"the compiled CPU kernel can not be loaded ({error}): {hint}") from error
        library.tutti_path.restype = c_char_p
        library.tutti_step.argtypes = [c_void_p, c_void_p]
        library.tutti_multiply.argtypes = [c_void_p, c_void_p, c_int32, c_void_p, c_void_p, c_int32]
        library.tutti_store_text.argtypes = [c_void_p, c_int32, c_int32, c_int32, c_int32, c_void_p, c_void_p]
        for function in (library.tutti_step, library.tutti_multiply, library.tutti_store_text):
            function.restype = None
        self.library = library
        name: bytes = library.tutti_path()
        self.path = name.decode()
        """Which code it was compiled to: "avx512_bf16", or "portable" vectors."""

    def step(self, model: Model, batch: Batch) -> None:
        """One step of every row of the batch; what the structures point to must be alive."""
        self.library.tutti_step(byref(model), byref(batch))

    def multiply(self, packed: PackedMatrix, x: Tensor) -> Tensor:
        """float32 [rows, inputs] times a packed matrix: float32 [rows, outputs]."""
        x = x.float().contiguous()
        out, narrow = torch.empty(len(x), packed.outputs), torch.empty(len(x), packed.inputs)
        matrix, threads = matrix_of(packed), torch.get_num_threads()
        pointers = (x.data_ptr(), len(x), narrow.data_ptr(), out.data_ptr())
        self.library.tutti_multiply(byref(matrix), *pointers, threads)
        return out

    def store_text(self, keys_values: Tensor, heads: int, keys: Tensor, values: Tensor) -> None:
        """Write one layer's keys and values of a text, float32 [T, 2 · D], in the kernel's order.

        Args:
            keys, values: of the cache's type, each D · (T rounded up to a block) numbers.
        """
        keys_values = keys_values.contiguous()
        tokens, head_dim = len(keys_values), keys_values.shape[1] // 2 // heads
        narrow = keys.dtype != torch.float32
        pointers = (keys.data_ptr(), values.data_ptr())
        self.library.tutti_store_text(keys_values.data_ptr(), tokens, heads, head_dim, narrow, *pointers)


@cache
def kernel(variant: str | None = None) -> Kernel:
    """The kernel, compiled if need be.

    Args:
        variant: "native" or "portable", see `build`; None is what ``TUTTI_CPU_KERNEL`` says, or native.

    Raises:
        KernelUnavailableError: saying why it can not run here.
    """
    return Kernel(build(variant or chosen_variant()))


def why_unavailable() -> str | None:
    """None where the kernel runs."""
    try:
        kernel()
    except KernelUnavailableError as error:
        return str(error)
    return None


def matrix_of(packed: PackedMatrix) -> Matrix:
    """The kernel's view; valid as long as ``packed`` is."""
    scales = packed.scales.data_ptr() if packed.scales.numel() else None
    return Matrix(FORMATS[packed.name], packed.outputs, packed.inputs, GROUP, packed.data.data_ptr(), scales)
