"""The codec's part of the compiled kernel as Python sees it: the structures of ``codec.h``, field by field."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_int32, c_int64, c_void_p

from models.kernels.cpu.library import Kernel

EDGE = 8
"""Most rows of padding at either end of a clip."""

KINDS = {"first": 0, "upsample": 1, "residual": 2, "last": 3}


class Panel(Structure):
    _fields_ = [("outputs", c_int32), ("inputs", c_int32), ("data", c_void_p), ("bias", c_void_p)]


class Stage(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("kind", "channels", "outputs", "size", "ratio", "front", "back")),
        ("tail", c_int64),
        ("raw_tail", c_int64),
        ("main", Panel),
        ("widen", Panel),
    ]


class LstmLayer(Structure):
    _fields_ = [("input", Panel), ("hidden", Panel)]


class Codec(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("format", "quantizers", "codebook_size", "layers", "num_stages", "width")),
        *((name, c_int64) for name in ("state_bytes", "hidden", "cell", "pending")),
        ("codebooks", c_void_p),
        ("lstm", POINTER(LstmLayer)),
        ("stages", POINTER(Stage)),
    ]


class Plan(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("kept", "fresh", "left", "right", "windows", "trim", "kept_next")),
        ("before", c_int32 * EDGE),
        ("after", c_int32 * EDGE),
    ]


class Call(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("streams", "frames", "threads", "last", "pending", "total", "whole")),
        *((name, c_int64) for name in ("area", "gates", "inner")),
        *((name, c_void_p) for name in ("codes", "plans", "before", "after", "room", "samples")),
    ]


class CodecKernel:
    """The codec's functions of a compiled kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.path = kernel.path
        library = kernel.library
        self._room, self._decode = library.tutti_codec_room, library.tutti_codec_decode
        self._activation_bytes = library.tutti_codec_activation_bytes
        for function in (self._room, self._decode):
            function.argtypes = [c_void_p, c_void_p]
        self._room.restype, self._decode.restype = c_int64, None
        self._activation_bytes.argtypes, self._activation_bytes.restype = [c_int32], c_int32

    def activation_bytes(self, weights: int) -> int:
        """Of one number as the kernel keeps it with weights of that format."""
        return int(self._activation_bytes(weights))

    def room(self, codec: Codec, call: Call) -> int:
        """Bytes that a call needs in ``room``; also says in the call where its parts lie."""
        return int(self._room(byref(codec), byref(call)))

    def decode(self, codec: Codec, call: Call) -> None:
        """Run; what the structures point to must be alive."""
        self._decode(byref(codec), byref(call))


def array_of(kind: type[Structure], items: list[Structure]) -> ctypes.Array[Structure]:
    """One after the other in memory."""
    return (kind * len(items))(*items)
