"""WAV and headerless PCM: exact headers and sizes, known before the first sample."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from api.formats.base import AnySamples

SampleKind = Literal["s16", "s24", "f32"]
SAMPLE_BYTES: dict[SampleKind, int] = {"s16": 2, "s24": 3, "f32": 4}
_MAX_RIFF = 2**32 - 1
_SEE_DS64 = 2**32 - 1  # a size that stands in the ds64 chunk
_PCM, _FLOAT = 1, 3


@dataclass(frozen=True, slots=True)
class WavLayout:
    """Where everything lies in an uncompressed file.

    Attributes:
        header: the bytes before the first sample; none for raw PCM.
        frame_bytes: of one sample of all channels.
        total_samples: per channel.
    """

    header: bytes
    frame_bytes: int
    total_samples: int

    @property
    def data_bytes(self) -> int:
        return self.frame_bytes * self.total_samples

    @property
    def padding(self) -> bytes:
        """A RIFF chunk has an even number of bytes."""
        return bytes(self.data_bytes % 2) if self.header else b""

    @property
    def size(self) -> int:
        return len(self.header) + self.data_bytes + len(self.padding)


def layout(kind: SampleKind, sample_rate: int, channels: int, total_samples: int, *, headerless: bool) -> WavLayout:
    header = b"" if headerless else wav_header(sample_rate, channels, total_samples, kind)
    return WavLayout(header, SAMPLE_BYTES[kind] * channels, total_samples)


def wav_header(sample_rate: int, channels: int, total_samples: int, kind: SampleKind = "s16") -> bytes:
    """RIFF header; from 4 GiB on the RF64 one (EBU Tech 3306), whose sizes have 64 bits."""
    frame_bytes = SAMPLE_BYTES[kind] * channels
    data_bytes = total_samples * frame_bytes
    fmt = _format_chunk(kind, sample_rate, channels)
    riff_bytes = 4 + len(fmt) + 8 + data_bytes + data_bytes % 2
    if riff_bytes <= _MAX_RIFF:
        return struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE") + fmt + struct.pack("<4sI", b"data", data_bytes)
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, riff_bytes + 36, data_bytes, total_samples, 0)
    start = struct.pack("<4sI4s", b"RF64", _SEE_DS64, b"WAVE")
    return start + sizes + fmt + struct.pack("<4sI", b"data", _SEE_DS64)


def _format_chunk(kind: SampleKind, sample_rate: int, channels: int) -> bytes:
    width = SAMPLE_BYTES[kind]
    rates = (sample_rate, sample_rate * width * channels, width * channels, 8 * width)
    if kind == "f32":
        return struct.pack("<4sIHHIIHHH", b"fmt ", 18, _FLOAT, channels, *rates, 0)
    return struct.pack("<4sIHHIIHH", b"fmt ", 16, _PCM, channels, *rates)


def pcm_media_type(sample_rate: int, channels: int) -> str:
    return f"audio/pcm;rate={sample_rate};channels={channels};encoding=s16le"


class PcmEncoder:
    """Raw little-endian signed 16-bit samples, channels interleaved, without a header."""

    is_slow = False

    def __init__(self, sample_rate: int, channels: int, total_samples: int) -> None:
        self.media_type = pcm_media_type(sample_rate, channels)
        self.content_length: int | None = total_samples * channels * 2

    def encode(self, samples: AnySamples) -> bytes:
        return samples.tobytes()

    def finish(self) -> bytes:
        return b""


class WavEncoder:
    """Samples behind a header with exact sizes.

    Args:
        kind: of the samples that will come: 16-bit integers, 24-bit ones as rows of bytes, or floats.
    """

    media_type = "audio/wav"
    is_slow = False

    def __init__(self, sample_rate: int, channels: int, total_samples: int, kind: SampleKind = "s16") -> None:
        whole = layout(kind, sample_rate, channels, total_samples, headerless=False)
        self.content_length: int | None = whole.size
        self._header = whole.header
        self._padding = whole.padding

    def encode(self, samples: AnySamples) -> bytes:
        header, self._header = self._header, b""
        return header + samples.tobytes()

    def finish(self) -> bytes:
        return self._padding
