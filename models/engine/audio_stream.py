"""Complete frames become finished chunks: when to decode, and how samples are laid out.

A chunk leaves as soon as its samples can no longer change. The codec looks a few frames ahead, so F frames of audio
exist F + look-ahead frames into the codes; the streaming decoder carries its state, and no frame is decoded twice.
The first chunk is small, so that a listener hears something soon, and each next one is larger, so that few are made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any, Generic, Protocol

import torch
from torch import Tensor

from models.config import ModelConfig
from models.encodec.interface import Codec
from models.encodec.streaming import StreamingDecoder, decode_batch
from models.engine.chunks import ChunkPolicy
from models.engine.sequence import Row, Sequence
from models.engine.step import StepPlan, StepResult
from models.engine_config import EngineConfig
from models.errors import GenerationFailedError
from models.types import AudioChunk, CodePrompt

logger = logging.getLogger(__name__)


class CodeSource(Protocol):
    """Where the codes of running requests are read."""

    def codes(self, sequence: Sequence[Any], first: int, end: int) -> Tensor:
        """Frames ``first`` to ``end`` (not included), delays undone: int64 ``[K, end − first]``."""
        ...


class AudioStream:
    """One track being decoded: one streaming decoder per channel, and the count of what has left."""

    def __init__(self, codec: Codec, frames: int, config: ModelConfig, policy: ChunkPolicy) -> None:
        self.decoders = [StreamingDecoder(codec, frames) for _ in range(config.channels)]
        self._lookahead = codec.lookahead_frames
        self._frames = frames
        self._config = config
        self._policy = policy
        self.window_index = 0  # whose beginning was told of
        self._sent = 0  # frames that left as samples
        self._index = 0

    @property
    def pushed(self) -> int:
        """Frames of codes given to the decoders so far."""
        return self.decoders[0].frames_pushed

    def is_due(self, complete: int) -> bool:
        """Whether ``complete`` frames of codes are enough for the next chunk."""
        return complete == self._frames or complete - self._lookahead - self._sent >= self._policy.frames

    def split(self, codes: Tensor) -> list[Tensor]:
        """Codes per channel: stereo codebooks interleave left and right. ``[K, n]`` to ``[K / channels, n]`` each"""
        return [codes[channel :: len(self.decoders)] for channel in range(len(self.decoders))]

    def wrap(self, samples: SequenceOf[Tensor], codes: bytes | None, finished: CodePrompt | None = None) -> AudioChunk:
        """Make the next chunk of newly final samples, float ``[n]`` per channel.

        Args:
            codes, finished: see `AudioChunk`.

        Raises:
            GenerationFailedError: the codec made a sample that is not a number.
        """
        pcm = torch.stack([channel.float() for channel in samples], dim=-1)  # [n, channels]
        if not bool(pcm.isfinite().all()):
            raise GenerationFailedError("the codec made samples that are not finite numbers; the weights may be broken")
        hop = self._config.codec.hop_length
        chunk = AudioChunk(
            index=self._index,
            first_sample=self._sent * hop,
            channels=len(samples),
            sample_rate=self._config.sample_rate,
            pcm=pcm.clamp_(-1.0, 1.0).cpu().numpy().astype("<f4", copy=False).tobytes(),
            total_samples=self._frames * hop,
            is_last=self._sent + len(pcm) // hop == self._frames,
            codes=codes,
            finished=finished,
        )
        self._sent += len(pcm) // hop
        self._index += 1
        self._policy.grow()
        return chunk


@dataclass(frozen=True, slots=True)
class _Due(Generic[Row]):
    """A chunk to be made: whose, and from which new codes, ``[K, n]`` from frame ``first`` on."""

    sequence: Sequence[Row]
    stream: AudioStream
    first: int
    codes: Tensor


class AudioStage:
    """The audio of all running requests.

    Args:
        lag: steps by which the source's codes come late; a request stays in the plan for as many steps more.
    """

    def __init__(
        self, codec: Codec, model: ModelConfig, config: EngineConfig, source: CodeSource, lag: int = 0
    ) -> None:
        self._codec = codec
        self._model = model
        self._config = config
        self._source = source
        self._lag = lag
        self._streams: dict[str, AudioStream] = {}

    def __len__(self) -> int:
        """Tracks being decoded."""
        return len(self._streams)

    def decode(self, plan: StepPlan[Row], result: StepResult) -> None:
        """Decode what this step completed, and put the chunks that are due into the result.

        An error of the codec ends its own request only: it becomes a failure in the result.
        """
        due = [item for sequence in plan.running if (item := self._due(sequence, result)) is not None]
        for item, samples in zip(due, self._push(due), strict=True):
            try:
                if isinstance(samples, GenerationFailedError):
                    raise samples
                chunk = item.stream.wrap(samples, self._whole_codes(item), self._finished(item))
            except GenerationFailedError as error:
                result.failures[item.sequence.request_id] = error
            else:
                result.chunks[item.sequence.request_id] = chunk

    def forget(self, request_id: str) -> None:
        """Drop a track, wherever it stands."""
        self._streams.pop(request_id, None)

    def _due(self, sequence: Sequence[Row], result: StepResult) -> _Due[Row] | None:
        if sequence.request_id in result.failures:
            return None
        stream = self._streams.get(sequence.request_id)
        if stream is None:
            policy = ChunkPolicy(self._config, self._model.frame_rate)
            stream = AudioStream(self._codec, sequence.frames, self._model, policy)
            self._streams[sequence.request_id] = stream
        complete = sequence.frames_after(sequence.step + 1 - self._lag)
        if not stream.is_due(complete):
            return None
        return _Due(sequence, stream, stream.pushed, self._source.codes(sequence, stream.pushed, complete))

    def _push(self, due: SequenceOf[_Due[Row]]) -> list[list[Tensor] | GenerationFailedError]:
        """Samples per channel for each; all streams at like places go through the codec together."""
        try:
            return list(_push_together(due))
        except Exception:
            logger.exception("codec: a batch of %d tracks failed, decoding them one by one", len(due))
        return [_push_alone(item) for item in due]

    def _whole_codes(self, item: _Due[Row]) -> bytes | None:
        """The track's codes, int64 ``[K, frames]``, once it is complete and if they are wanted."""
        frames = item.sequence.frames
        if not self._config.return_codes or item.stream.pushed < frames:
            return None
        return self._codes(item, frames)

    def _finished(self, item: _Due[Row]) -> CodePrompt | None:
        """The track's codes until where its present window began, once for each after the first."""
        sequence, stream = item.sequence, item.stream
        if not self._config.return_codes or sequence.window_index == stream.window_index:
            return None
        stream.window_index = sequence.window_index
        codes = self._codes(item, sequence.window.start + sequence.window.known)
        return CodePrompt(codes, self._model.decoder.num_codebooks)

    def _codes(self, item: _Due[Row], frames: int) -> bytes:
        """int64 [K, frames], the track's first ones."""
        return self._source.codes(item.sequence, 0, frames).cpu().numpy().astype("<i8", copy=False).tobytes()


def _push_together(due: SequenceOf[_Due[Row]]) -> Iterator[list[Tensor]]:
    decoders = [decoder for item in due for decoder in item.stream.decoders]
    codes = [part for item in due for part in item.stream.split(item.codes)]
    samples = iter(decode_batch(decoders, codes) if due else [])
    for item in due:
        yield [next(samples) for _ in item.stream.decoders]


def _push_alone(item: _Due[Row]) -> list[Tensor] | GenerationFailedError:
    """Decode one track: a batch that failed has moved no decoder, so each can be tried by itself."""
    try:
        return next(_push_together([item]))
    except Exception:
        logger.exception("codec: request %s failed at frame %d", item.sequence.request_id, item.first)
        return GenerationFailedError(f"the codec failed at frame {item.first}; other requests were not touched")
