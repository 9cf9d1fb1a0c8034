"""Exact streams: codes in as they are made, samples out as soon as no later code can change them.

Whole frames only, `Codec.lookahead_frames` (4 for the published codec) behind the codes; the clip's
length is known in advance, so the last push gives out all the rest. What comes out, put together, is the
whole-clip decode at every chunking. A frame costs the same at the start and at the end of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.encodec.interface import Codec, to_samples


class StreamingDecoder:
    """One mono stream of one clip. Streams on one decoder share its weights and nothing else.

    Args:
        decoder: the codec.
        total_frames: length of the clip.

    Raises:
        ValueError: the clip has no frames.
    """

    def __init__(self, decoder: Codec, total_frames: int) -> None:
        self.decoder = decoder
        self.reset(total_frames)

    def reset(self, total_frames: int) -> None:
        """Begin a new clip: the same as a fresh stream."""
        if total_frames < 1:
            raise ValueError(f"a clip has at least 1 frame, got {total_frames}")
        self.total_frames = total_frames
        self.frames_pushed = 0
        self.samples_emitted = 0
        self._state: Any = self.decoder.fresh_state()

    @property
    def is_finished(self) -> bool:
        """Every frame has been pushed, every sample given out."""
        return self.frames_pushed == self.total_frames

    def push(self, codes: Tensor) -> Tensor:
        """Take the codes of the next frames, int64 [K, n]; give the samples that became final, [samples].

        Raises:
            ValueError: the codes are malformed or go past the end of the clip; the stream is unchanged.
        """
        return decode_batch([self], [codes])[0]

    def _check(self, codes: Tensor) -> None:
        self.decoder.check_codes(codes[None])
        left = self.total_frames - self.frames_pushed
        if codes.shape[1] > left:
            raise ValueError(f"{codes.shape[1]} frames pushed, but only {left} of {self.total_frames} are left")

    def _is_last(self, codes: Tensor) -> bool:
        return self.frames_pushed + codes.shape[1] == self.total_frames

    def _advance(self, frames: int, state: Any, samples: Tensor) -> Tensor:
        self._state = state
        self.frames_pushed += frames
        self.samples_emitted += samples.shape[0]
        return to_samples(samples)


def decode_batch(streams: Sequence[StreamingDecoder], codes: Sequence[Tensor]) -> list[Tensor]:
    """Push to several streams at once: what ``push`` would give for each, in the same order.

    Streams of one decoder that push equally many frames and stand at like places (not one at its start, another
    at its end) go through the decoder together; stereo is two such streams.

    Raises:
        ValueError: as ``push``, or a stream is named twice. Whatever is raised, no stream is changed.
    """
    if len({id(stream) for stream in streams}) != len(streams):
        raise ValueError("a stream may be pushed to only once per batch")
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, (stream, piece) in enumerate(zip(streams, codes, strict=True)):
        stream._check(piece)
        key = (id(stream.decoder), piece.shape[1], stream._is_last(piece), *stream._state.shape_key())
        groups.setdefault(key, []).append(index)
    decoded = [(members, *_decode_together(streams, codes, members)) for members in groups.values()]
    samples: dict[int, Tensor] = {}
    for members, out, states in decoded:  # only now, when every group has gone through
        for row, (index, state) in enumerate(zip(members, states, strict=True)):
            samples[index] = streams[index]._advance(codes[index].shape[1], state, out[row])
    return [samples[index] for index in range(len(streams))]


def _decode_together(
    streams: Sequence[StreamingDecoder], codes: Sequence[Tensor], members: list[int]
) -> tuple[Tensor, list[Any]]:
    """Samples ``[members, …]`` and the states after them."""
    first = streams[members[0]]
    state = type(first._state).merge([streams[i]._state for i in members])
    out, state = first.decoder.step(torch.stack([codes[i] for i in members]), state, first._is_last(codes[members[0]]))
    return out, state.split()
