"""How an engine runs a model: frozen numbers, checked once, before anything is loaded. No torch here."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from models.errors import InvalidRequestError
from models.types import LONGEST_TRACK_S

if TYPE_CHECKING:
    from models.config import ModelConfig

DTYPES = ("float32", "bfloat16")
WEIGHT_FORMATS = ("fp32", "bf16", "int8", "int4")
ATTENTION_BACKENDS = ("triton", "sdpa", "xformers")
LAYER_KERNELS = ("triton", "torch")
KV_FORMATS = ("model", "int8")
STATIC_WEIGHTS = ("model", "int8")
GRAPH_ONLY = ("attention", "layers", "kv", "run_ahead", "text_positions")
"""Settings that mean something with ``graph: true`` only."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How one engine runs. Unknown names are refused by Python itself, values here.

    Attributes:
        device: "cpu", "cuda" or "cuda:N".
        dtype: the decoder computes in, "float32" or "bfloat16".
        weights: format the decoder's weights are kept in: "fp32", "bf16", "int8" or "int4"; None follows ``dtype``.
            int8 is for CPUs and captured steps, int4 for CPUs. Activations are then bfloat16, sums float32, keys and
            values bfloat16.
        graph: compute the whole step, sampling included, as one captured CUDA graph (decision 20). On a CPU the same
            step runs uncaptured, for tests. The next five settings are refused without it.
        attention: "triton" (our kernel), "sdpa" (torch's) or "xformers"; equal within rounding.
        layers: what surrounds attention: "triton" (fused kernels) or "torch".
        kv: keys and values of the past in the ``model``'s own type, or "int8" with a scale per head and position.
        run_ahead: steps that are started before the host looks at the result of the first.
        text_positions: room for the texts of all running requests, in tokens; None for 64 per row.
        codec_dtype: the codec computes in, "float32" or "bfloat16"; None follows ``weights`` on a CPU (bfloat16 but for
            fp32 weights), and is float32 on a GPU.
        max_rows: rows in one step; a guided request takes 2.
        kv_positions: KV positions reserved for all rows; None is enough for ``max_rows`` of the longest window.
        max_queue: requests that may wait.
        longest_s: seconds of the longest track; what is longer than the model's window is made window by window.
        prefill_rows: most rows of a step that may work through music that is known already (what a track goes on from,
            the overlap of two windows, a melody), one position each: how much longer such a step may take for everybody
            else. Where rows may pause it is less if a listener's real time would suffer.
        first_chunk_s: seconds of audio in the first chunk.
        chunk_growth: each chunk is this many times longer than the one before ...
        max_chunk_s: ... up to this many seconds.
        prebuffer_s: seconds of audio that listeners' players are taken to wait for before they start.
        pause_rows: when not all rows can be in the step in time, let those far ahead of their listeners pause.
        return_codes: put the codes on the last chunk.
        num_threads: CPU threads; None leaves torch's own choice.
        separator: weights of Demucs' htdemucs, which takes drums and bass out of melodies (an extra); a relative path
            starts from the repository's root. None: melodies are heard as they are.
        batch_invariant: where torch computes the step on a CPU in float32, pad its rows so that a track's tokens do not
            depend, to the last bit, on who shares the step. Our own kernel has that property in every format anyway.

    Raises:
        InvalidRequestError: naming the value that is out of range.
    """

    device: str = "cpu"
    dtype: str = "float32"
    weights: str | None = None
    graph: bool = False
    attention: str = "sdpa"
    layers: str = "torch"
    kv: str = "model"
    run_ahead: int = 0
    text_positions: int | None = None
    codec_dtype: str | None = None
    max_rows: int = 16
    kv_positions: int | None = None
    max_queue: int = 64
    longest_s: float = LONGEST_TRACK_S
    prefill_rows: int = 64
    first_chunk_s: float = 0.2
    chunk_growth: float = 2.0
    max_chunk_s: float = 1.0
    prebuffer_s: float = 0.5
    pause_rows: bool = True
    return_codes: bool = False
    num_threads: int | None = None
    separator: str | None = None
    batch_invariant: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", str(self.device)):
            raise _refusal("device", self.device, "'cpu', 'cuda' or 'cuda:N'")
        for name in ("pause_rows", "return_codes", "batch_invariant", "graph"):
            if getattr(self, name) not in (True, False):
                raise _refusal(name, getattr(self, name), "true or false")
        if self.separator is not None and not (isinstance(self.separator, str) and self.separator):
            raise _refusal("separator", self.separator, "the path of a file, or left out")
        self._check_choices()
        self._check_numbers()
        self._check_weights()
        self._check_graph()

    def _check_choices(self) -> None:
        choices = {
            "dtype": DTYPES,
            "attention": ATTENTION_BACKENDS,
            "layers": LAYER_KERNELS,
            "kv": KV_FORMATS,
        }
        if self.codec_dtype is not None:
            choices["codec_dtype"] = DTYPES
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise _refusal(name, getattr(self, name), f"one of {', '.join(known)}")

    def _check_numbers(self) -> None:
        self._check_integer("max_rows", at_least=1)
        self._check_integer("max_queue", at_least=0)
        self._check_integer("run_ahead", at_least=0)
        self._check_integer("prefill_rows", at_least=2)  # a guided request has two
        self._check_number("longest_s", 0.0, exclusive=True)
        for name in ("kv_positions", "num_threads", "text_positions"):
            if getattr(self, name) is not None:
                self._check_integer(name, at_least=1)
        self._check_number("first_chunk_s", 0.0, exclusive=True)
        self._check_number("max_chunk_s", self.first_chunk_s)
        self._check_number("chunk_growth", 1.0)
        self._check_number("prebuffer_s", 0.0)

    @property
    def weight_format(self) -> str:
        """One of ``WEIGHT_FORMATS``."""
        return self.weights or ("fp32" if self.dtype == "float32" else "bf16")

    @property
    def codec_type(self) -> str:
        """What the codec computes in: one of ``DTYPES``."""
        follows = "float32" if self.device != "cpu" or self.weight_format == "fp32" else "bfloat16"
        return self.codec_dtype or follows

    def kv_positions_for(self, model: ModelConfig) -> int:
        """KV positions to reserve: what is configured, or every row at the longest window, behind the longest text."""
        return self.kv_positions or self.max_rows * (model.longest_prefix + model.max_frames + 4)

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        if self.weights not in WEIGHT_FORMATS:
            raise _refusal("weights", self.weights, f"one of {', '.join(WEIGHT_FORMATS)}")
        if self.graph and self.weights == "int4":
            raise _refusal("weights", self.weights, "fp32, bf16 or int8 with graph: true")
        if not self.graph and self.device != "cpu" and self.weights in ("int8", "int4"):
            raise _refusal("weights", self.weights, "fp32 or bf16 on a GPU, or int8 with graph: true")

    def _check_graph(self) -> None:
        """What takes part in a captured step is for captured steps, and Triton's kernels for a GPU."""
        if not self.graph:
            defaults = {field.name: field.default for field in fields(self)}
            for name in GRAPH_ONLY:
                if getattr(self, name) != defaults[name]:
                    raise _refusal(name, getattr(self, name), f"left at {defaults[name]!r} without graph: true")
        if self.device == "cpu":
            self._check_kernels_on_cpu()

    def _check_kernels_on_cpu(self) -> None:
        if self.attention == "xformers":
            raise _refusal("attention", self.attention, "'sdpa' on a CPU")
        for name, plain in (("attention", "sdpa"), ("layers", "torch")):
            if getattr(self, name) == "triton" and os.environ.get("TRITON_INTERPRET") != "1":
                raise _refusal(name, "triton", f"{plain!r} on a CPU (TRITON_INTERPRET=1 interprets kernels, for tests)")

    def _check_integer(self, name: str, at_least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise _refusal(name, value, f"a whole number of at least {at_least}")

    def _check_number(self, name: str, lowest: float, exclusive: bool = False) -> None:
        value = getattr(self, name)
        wanted = f"a number {'above' if exclusive else 'of at least'} {lowest:g}"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _refusal(name, value, wanted)
        if value < lowest or (exclusive and value == lowest):
            raise _refusal(name, value, wanted)


def _refusal(name: str, value: object, wanted: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name} must be {wanted}, got {value!r}", param=name)
