"""A track as numbered pieces of 16-bit samples on a fixed grid.

An engine hands out chunks of whatever length it likes. The grid makes the same pieces of the same track whoever made
it, in however many attempts: piece ``i`` has the same bytes for ever, so listeners count pieces and come back.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import cached_property

from api.formats.audio import to_pcm16
from models.errors import GenerationFailedError, ReplicaLostError
from models.types import AudioChunk

PIECE_S = 0.2
_SAMPLE_BYTES = 2


@dataclass(frozen=True, slots=True)
class TrackHeader:
    """What a track is made of, known from its first sample on.

    Attributes:
        sample_rate: Hz.
        channels: 1 or 2.
        total_samples: samples per channel of the whole track.
    """

    sample_rate: int
    channels: int
    total_samples: int

    @classmethod
    def of(cls, chunk: AudioChunk) -> TrackHeader:
        return cls(chunk.sample_rate, chunk.channels, chunk.total_samples)

    @property
    def piece_samples(self) -> int:
        """Samples per channel of every piece but the last."""
        return round(self.sample_rate * PIECE_S)

    @property
    def num_pieces(self) -> int:
        return -(-self.total_samples // self.piece_samples)

    @property
    def duration_s(self) -> float:
        return self.total_samples / self.sample_rate

    def first_sample(self, index: int) -> int:
        return index * self.piece_samples

    def num_samples(self, index: int) -> int:
        """Samples per channel of piece ``index``."""
        return min(self.piece_samples, self.total_samples - self.first_sample(index))

    def num_bytes(self, index: int) -> int:
        return self.num_samples(index) * self.channels * _SAMPLE_BYTES


@dataclass(frozen=True)
class Piece:
    """One piece. Shared by all listeners of a process, so what is derived from it is derived once.

    Attributes:
        position: of the track in its generation.
        index: 0, 1, 2 … within the track.
        pcm: little-endian signed 16-bit samples, channels interleaved.
        here_since: seconds of ``time.perf_counter`` when this process got it while it was new; 0: it was there before.
    """

    position: int
    index: int
    header: TrackHeader
    pcm: bytes
    here_since: float = field(default=0.0, compare=False)

    @property
    def first_sample(self) -> int:
        return self.header.first_sample(self.index)

    @property
    def num_samples(self) -> int:
        return len(self.pcm) // (_SAMPLE_BYTES * self.header.channels)

    @property
    def is_last(self) -> bool:
        return self.index == self.header.num_pieces - 1

    @cached_property
    def as_json(self) -> str:
        """The piece as an ``audio`` event tells it."""
        return json.dumps(
            {
                "track": self.position,
                "index": self.index,
                "first_sample": self.first_sample,
                "num_samples": self.num_samples,
                "sample_rate": self.header.sample_rate,
                "channels": self.header.channels,
                "total_samples": self.header.total_samples,
                "encoding": "s16le",
                "data": base64.b64encode(self.pcm).decode("ascii"),
            },
            separators=(",", ":"),
        )


class Slicer:
    """Chunks of one track in, pieces out, the same ones whatever the chunking.

    Attributes:
        header: what every chunk must say; from the first one on.
        complete: the whole track came, with its end marker.
    """

    def __init__(self, position: int) -> None:
        self._position = position
        self._rest = bytearray()
        self._samples_seen = 0
        self._next_index = 0
        self.header: TrackHeader | None = None
        self.complete = False

    def push(self, chunk: AudioChunk) -> list[Piece]:
        """The pieces that this chunk completes.

        Raises:
            ReplicaLostError: samples are missing between the chunks, or the last one came too early.
            GenerationFailedError: samples are no numbers, or more came than were announced.
        """
        header = self._checked(chunk)
        self._rest += to_pcm16(chunk.pcm, chunk.channels).tobytes()
        self._samples_seen += chunk.num_samples
        if chunk.is_last and self._samples_seen < header.total_samples:
            raise ReplicaLostError(f"the audio ended at sample {self._samples_seen} of {header.total_samples}")
        if self._samples_seen > header.total_samples:
            raise GenerationFailedError(f"{self._samples_seen} samples came where {header.total_samples} were due")
        self.complete = chunk.is_last
        return self._cut(header)

    def _checked(self, chunk: AudioChunk) -> TrackHeader:
        if self.header is None:
            self.header = TrackHeader.of(chunk)
        if TrackHeader.of(chunk) != self.header:
            raise GenerationFailedError("a track's sample rate, channels or length changed on the way")
        if chunk.first_sample != self._samples_seen:
            raise ReplicaLostError(f"samples {self._samples_seen} to {chunk.first_sample} are missing")
        return self.header

    def _cut(self, header: TrackHeader) -> list[Piece]:
        pieces: list[Piece] = []
        while self._next_index < header.num_pieces:
            size = header.num_bytes(self._next_index)
            if len(self._rest) < size:
                break
            pieces.append(Piece(self._position, self._next_index, header, bytes(self._rest[:size])))
            del self._rest[:size]
            self._next_index += 1
        return pieces
