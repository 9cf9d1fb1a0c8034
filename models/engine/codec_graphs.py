"""The codec with the steps that every track takes captured, for up to so many streams at once.

A push is about a hundred small kernels, and starting them takes the host longer than the GPU needs for the music. A
track's pushes are known beforehand: the chunks grow as configured, and a stream's state has one shape before its first
push, one after it. So these pushes are captured, for 1, 2, 4 … streams, and only a track's last one is not.

    streams' states ──merged──►  inputs at fixed addresses ──replay──►  samples and states, copied out before the next
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.encodec.decoder import EncodecDecoder
from models.encodec.interface import Codec
from models.encodec.state import DecoderState, LstmState
from models.engine.capture import Capture, Work
from models.engine.chunks import ChunkPolicy
from models.engine_config import EngineConfig

STREAMS = (16, 8, 4, 2, 1)
"""In one replay; more are decoded batch by batch: a second of 16 streams is 130 MB of float32 in each of the widest
layers."""

_PUSHES = 10
"""So many of a track's first ones are looked at for their shapes; after them chunks have long had their full length."""

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Push:
    """One push of B streams: where its inputs are, how it is run, and a state of the shape that comes out."""

    codes: Tensor
    state: DecoderState
    after: DecoderState
    run: Work


class GraphCodec(Codec):
    """
    Args:
        codec: whose steps are captured; it decodes what is not.
        pushes: frames of each of a track's pushes, in order.
    """

    def __init__(self, codec: EncodecDecoder, pushes: list[int], capture: Capture) -> None:
        self.config = codec.config
        self.lookahead_frames = codec.lookahead_frames
        self._codec = codec
        self._pushes: dict[Key, dict[int, _Push]] = {}
        for streams in STREAMS:  # the largest first, so that the others share its memory
            for key, codes, state, after in self._inputs(pushes, streams):
                self._pushes.setdefault(key, {})[streams] = self._captured(codes, state, after, capture)

    @classmethod
    def of(cls, codec: EncodecDecoder, config: EngineConfig) -> GraphCodec:
        """For the chunks that the configuration asks for."""
        policy, pushes = ChunkPolicy(config, codec.config.frame_rate), []
        for _ in range(_PUSHES):
            pushes.append(policy.frames)
            policy.grow()
        pushes[0] += codec.lookahead_frames
        return cls(codec, pushes, Capture.of(config.device))

    @property
    def nbytes(self) -> int:
        return self._codec.nbytes

    def fresh_state(self, batch: int = 1) -> DecoderState:
        return self._codec.fresh_state(batch)

    def check_codes(self, codes: Tensor) -> None:
        """Not looked at: they are our own sampler's, and looking would wait for the device, once for every stream."""

    @torch.inference_mode()
    def step(self, codes: Tensor, state: DecoderState, last: bool) -> tuple[Tensor, DecoderState]:
        """See `Codec.step`."""
        sizes = self._pushes.get(_key(codes.shape[2], state))
        if last or sizes is None:
            return self._codec.step(codes, state, last)
        samples, states, parts = [], [], state.split()
        for first in range(0, len(codes), STREAMS[0]):
            some = parts[first : first + STREAMS[0]]
            size = next(streams for streams in reversed(STREAMS) if streams >= len(some))
            given, after = _replay(sizes[size], codes[first : first + len(some)], DecoderState.merge(some))
            samples.append(given)
            states += after.split()
        return torch.cat(samples), DecoderState.merge(states)

    # --------------------------------------------------------------------------------------------------- inside

    def _inputs(self, pushes: list[int], streams: int) -> Iterator[tuple[Key, Tensor, DecoderState, DecoderState]]:
        """Every push of a shape of its own: its codes, the state before it and the state after it."""
        state, seen = self.fresh_state(streams), set[Key]()
        for frames in pushes:
            shape = (streams, self.config.num_quantizers, frames)
            codes = torch.zeros(shape, dtype=torch.int64, device=self._codec.device)
            key, after = _key(frames, state), self._codec.step(codes, state, last=False)[1]
            if key not in seen:
                yield key, codes, _with(state, [each.clone() for each in _tensors(state)]), after
            seen.add(key)
            state = after

    def _captured(self, codes: Tensor, state: DecoderState, after: DecoderState, capture: Capture) -> _Push:
        def work() -> list[Tensor]:
            samples, following = self._codec.step(codes, state, last=False)
            return [samples, *_tensors(following)]

        return _Push(codes, state, after, capture(work))


def _key(frames: int, state: DecoderState) -> Key:
    return (frames, *state.shape_key())


def _replay(push: _Push, codes: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
    """Of as many streams as there are codes; the others of the batch are whatever was there."""
    streams = len(codes)
    push.codes[:streams].copy_(codes)
    for fixed, given in zip(_tensors(push.state), _tensors(state), strict=True):
        fixed[:streams].copy_(given)
    samples, *after = (each[:streams].clone() for each in push.run())
    return samples, _with(push.after, after)


def _tensors(state: DecoderState) -> list[Tensor]:
    """All that a state holds, streams first."""
    tails = [window.tail for window in (state.first, *state.stages) if window.tail is not None]
    return [state.lstm.hidden.transpose(0, 1), state.lstm.cell.transpose(0, 1), state.pending, *tails]


def _with(state: DecoderState, tensors: Iterable[Tensor]) -> DecoderState:
    """A state of the same shape that holds these, in the order of `_tensors`."""
    hidden, cell, pending, *tails = tensors
    left = iter(tails)
    first, *stages = (
        window if window.tail is None else replace(window, tail=next(left)) for window in (state.first, *state.stages)
    )
    return DecoderState(first, LstmState(hidden.transpose(0, 1), cell.transpose(0, 1)), tuple(stages), pending)
