"""EnCodec's decoder for CPUs: the same function as `EncodecDecoder`, one call of our own kernel per step.

Weights are packed once, in fp32 or bf16; activations are of the same type, sums and the LSTM's cells float32. A sample
depends on its own window alone, summed in one order: whatever the chunking and whoever shares the call, it is the same
to the last bit, in either format.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from models.config import CodecConfig
from models.encodec.cpu_weights import CodecWeights
from models.encodec.decoder import EncodecDecoder
from models.encodec.interface import Codec
from models.encodec.plan import StagePlan, Standing, plan_stages, stages_of
from models.kernels.cpu import codec as native
from models.kernels.cpu import library
from models.kernels.cpu.codec import CodecKernel
from models.kernels.cpu.library import Kernel

# Frames, over all streams, that go through the kernel at once: enough for the weights that are read once per call,
# and 40 MB of activations at the published width.
_FRAMES_AT_ONCE = 64


def why_unsupported(config: CodecConfig) -> str | None:
    """None where the kernel can run a codec of this geometry."""
    top = config.num_filters * 2 ** len(config.upsampling_ratios)
    sizes = (config.kernel_size, config.residual_kernel_size, config.last_kernel_size)
    if config.use_conv_shortcut:
        return "use_conv_shortcut must be false"
    if config.num_residual_layers > 1 and config.dilation_growth_rate != 1:
        return "residual blocks must not be dilated"
    if max(sizes) // 2 > native.EDGE or max(config.upsampling_ratios) > 2 * native.EDGE:
        return f"kernels must be at most {2 * native.EDGE + 1} wide"
    if config.num_filters % 2 or config.hidden_size % 2 or top % library.BLOCK:
        return (
            f"hidden_size = {config.hidden_size} and num_filters = {config.num_filters} must be even, {top} a 16-fold"
        )
    return None


@dataclass(frozen=True, slots=True)
class CpuDecoderState:
    """What B streams that stand at like places carry.

    Attributes:
        standing: of each stage.
        pending: final samples that do not fill a frame yet.
        memory: uint8 [B, bytes], in the kernel's layout.
    """

    standing: tuple[Standing, ...]
    pending: int
    memory: Tensor

    def shape_key(self) -> tuple[object, ...]:
        """Streams with equal keys take the same path through the decoder, so they can be batched."""
        return (self.pending, *self.standing)

    @staticmethod
    def merge(states: Sequence[CpuDecoderState]) -> CpuDecoderState:
        """One batch of streams whose keys are equal, in the order given."""
        first = states[0]
        if len(states) == 1:
            return first
        return CpuDecoderState(first.standing, first.pending, torch.cat([state.memory for state in states]))

    def split(self) -> list[CpuDecoderState]:
        """The streams of a batch, each with a batch of one."""
        return [CpuDecoderState(self.standing, self.pending, one) for one in self.memory[:, None]]


class CpuEncodecDecoder(Codec):
    """The decoder of one codec in the kernel's layout.

    Args:
        decoder: whose weights, float32, to take.
        weights: "fp32" or "bf16".
        kernel: which; None is this machine's.
        packed: the `tensors` of another with the same weights; ``decoder`` then needs none (`from_packed`).

    Raises:
        KernelUnavailableError: the kernel can not run here.
    """

    def __init__(
        self,
        decoder: EncodecDecoder,
        weights: str,
        kernel: Kernel | None = None,
        packed: Mapping[str, Tensor] | None = None,
    ) -> None:
        assert why_unsupported(decoder.config) is None, f"{why_unsupported(decoder.config)}: the caller asks first"
        self.config = decoder.config
        self.lookahead_frames = decoder.lookahead_frames
        self.weights = weights
        self._kernel = CodecKernel(kernel or library.kernel())
        self._stages = stages_of(decoder.config)
        self._packed = CodecWeights(decoder, weights, self._stages, self._kernel, packed)
        self._plan = lru_cache(maxsize=512)(self._make_plan)
        self._of_thread = threading.local()

    @classmethod
    def from_packed(cls, config: CodecConfig, packed: Mapping[str, Tensor], weights: str) -> CpuEncodecDecoder:
        """Of tensors that were packed before; nothing of a checkpoint is read."""
        return cls(EncodecDecoder(config), weights, packed=packed)

    @property
    def nbytes(self) -> int:
        """Of the weights."""
        return self._packed.nbytes

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All packed tensors, for `from_packed`."""
        return self._packed.tensors()

    def fresh_state(self, batch: int = 1) -> CpuDecoderState:
        memory = torch.zeros(batch, self._packed.codec.state_bytes, dtype=torch.uint8)
        return CpuDecoderState((Standing(),) * len(self._stages), 0, memory)

    @torch.inference_mode()
    def step(self, codes: Tensor, state: CpuDecoderState, last: bool) -> tuple[Tensor, CpuDecoderState]:
        """See `Codec.step`."""
        frames = codes.shape[2]
        size = max(1, _FRAMES_AT_ONCE // codes.shape[0])
        pieces = []
        for start in range(0, frames, size):
            piece, state = self._call(codes[:, :, start : start + size], state, last and start + size >= frames)
            pieces.append(piece)
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)), state

    # ------------------------------------------------------------------------------------------------ inside

    def _call(self, codes: Tensor, state: CpuDecoderState, last: bool) -> tuple[Tensor, CpuDecoderState]:
        streams, _, frames = codes.shape
        codes = codes.to(torch.int64).contiguous()
        structures, plans = self._plan(state.standing, frames, last)
        total = state.pending + plans[-1].rows
        whole = total // self.config.hop_length * self.config.hop_length
        samples, memory = torch.empty(streams, total), torch.empty_like(state.memory)
        call = native.Call(
            streams=streams,
            frames=frames,
            threads=torch.get_num_threads(),
            last=last,
            pending=state.pending,
            total=total,
            whole=whole,
            codes=codes.data_ptr(),
            plans=ctypes.addressof(structures),
            before=state.memory.data_ptr(),
            after=memory.data_ptr(),
            samples=samples.data_ptr(),
        )
        call.room = self._room(self._kernel.room(self._packed.codec, call)).data_ptr()
        self._kernel.decode(self._packed.codec, call)
        left = CpuDecoderState(tuple(plan.left for plan in plans), total - whole, memory)
        return samples[:, :whole], left

    def _make_plan(self, standing: tuple[Standing, ...], frames: int, last: bool) -> tuple[Any, tuple[StagePlan, ...]]:
        plans = plan_stages(self._stages, standing, frames, last)
        return native.array_of(native.Plan, [_structure(plan) for plan in plans]), plans

    def _room(self, size: int) -> Tensor:
        """Where activations lie during a call: kept, because making and touching it anew costs as much as a stage."""
        room: Tensor | None = getattr(self._of_thread, "room", None)
        if room is None or room.numel() < size:
            room = self._of_thread.room = torch.empty(size, dtype=torch.uint8)
        return room


def _structure(plan: StagePlan) -> native.Plan:
    sources = ctypes.c_int32 * native.EDGE
    return native.Plan(
        kept=plan.kept,
        fresh=plan.fresh,
        left=len(plan.before),
        right=len(plan.after),
        windows=plan.windows,
        trim=plan.trim,
        kept_next=plan.left.kept,
        before=sources(*plan.before),
        after=sources(*plan.after),
    )
