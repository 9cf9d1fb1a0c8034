"""One file of one finished track: everything that is known of it before a byte is made."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
import soxr

from api.errors import ApiError, ErrorCode
from api.formats.base import extension
from api.formats.loudness import Gain
from api.formats.rendition import FileEncoder, Rendition
from api.formats.wav import WavLayout

MAX_KEPT_BYTES = 24 * 2**20
_COMPRESSED_BYTES_PER_S = 32_000  # MP3 and Opus, at most
_VECTOR_UNITS = frozenset({"sse4_1", "avx", "avx2", "fma", "avx512f", "asimd", "sve"})


@dataclass(frozen=True, slots=True)
class FinishedTrack:
    """What the row of a track that succeeded says of its audio; the columns' names."""

    id: str
    account_id: str
    object_key: str
    sha256: str
    sample_rate: int
    channels: int
    total_samples: int
    loudness_lufs: float | None
    peak: float

    @classmethod
    def of(cls, row: Any) -> Self:
        """From a row of ``tracks``, or whatever has its columns as attributes.

        Raises:
            ApiError: audio_not_ready.
        """
        values = {field.name: getattr(row, field.name) for field in fields(cls)}
        if any(value is None for name, value in values.items() if name != "loudness_lufs"):
            raise ApiError(ErrorCode.AUDIO_NOT_READY)
        return cls(**values)


@dataclass(frozen=True)
class TrackFile:
    """A track as one rendition of it."""

    track: FinishedTrack
    rendition: Rendition

    @cached_property
    def gain(self) -> Gain | None:
        """What is done to the track's loudness; None: nothing was asked."""
        return self.rendition.gain(self.track.loudness_lufs, self.track.peak)

    @property
    def factor(self) -> np.float32 | None:
        return None if self.gain is None else self.gain.factor

    @property
    def sample_rate(self) -> int:
        """Hz of the file."""
        return self.rendition.output_rate(self.track.sample_rate)

    @property
    def duration_s(self) -> float:
        return self.track.total_samples / self.track.sample_rate

    @cached_property
    def layout(self) -> WavLayout | None:
        """Where each sample's bytes lie in an uncompressed file; None of a compressed one."""
        return self.rendition.layout(self.track.sample_rate, self.track.channels, self.track.total_samples)

    @property
    def sliceable(self) -> WavLayout | None:
        """The layout, if any part of the file can be made from the same part of the track alone."""
        return self.layout if self.sample_rate == self.track.sample_rate else None

    @property
    def is_small(self) -> bool:
        """Surely small enough to be made whole and kept for a while."""
        if self.layout is not None:
            return self.layout.size <= MAX_KEPT_BYTES
        lossless = 3 * self.sample_rate * self.track.channels
        per_second = _COMPRESSED_BYTES_PER_S if self.rendition.format in {"mp3", "opus"} else lossless
        return self.duration_s * per_second <= MAX_KEPT_BYTES

    @property
    def name(self) -> str:
        return f"{self.track.id}.{extension(self.rendition.format)}"

    @property
    def media_type(self) -> str:
        return self.rendition.media_type(self.sample_rate, self.track.channels)

    @cached_property
    def etag(self) -> str:
        """A name for exactly these bytes. What codecs choose in floating point also depends on where they run."""
        where = "" if self.sliceable else _codec_build()
        parts = [self.track.id, self.track.sha256, *astuple(self.rendition), where]
        return f'"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"'

    def encoder(self) -> FileEncoder:
        track = self.track
        return FileEncoder(self.rendition, track.sample_rate, track.channels, track.total_samples, self.factor)


@functools.cache
def _codec_build() -> str:
    """Which codecs run here, on which vector units: what two gateways must share to encode the same bytes."""
    flags: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features")))
        flags = set(next(lines, "").split()) & _VECTOR_UNITS
    return " ".join((soundfile.__libsndfile_version__, soxr.__version__, platform.machine(), *sorted(flags)))
