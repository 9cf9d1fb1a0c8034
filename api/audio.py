"""Audio formats as streams: chunks in, bytes out, nothing held back but what a codec needs.

The length of a track is known before its first sample, so WAV and raw PCM have exact headers and an exact number of
bytes, and FLAC and MP3 state their length in a header that an encoder would otherwise come back to at the end.
Every format carries the same 16-bit samples.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import soundfile

from api import mp3
from models.errors import GenerationFailedError, InvalidRequestError
from models.types import AudioChunk

AudioFormat = Literal["wav", "flac", "mp3", "pcm"]
FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)
Samples = npt.NDArray[np.int16]  # [samples, channels]

_FULL_SCALE = 32767
_WAV_HEADER_BYTES = 44
_MAX_WAV_BYTES = 2**32 - 1


def to_pcm16(pcm: bytes, channels: int) -> Samples:
    """Float samples in [-1, 1] → 16-bit ``[samples, channels]``: rounded to nearest, no dither, clipped, never wrapped.

    Raises:
        GenerationFailedError: a sample is not a number.
    """
    samples = np.frombuffer(pcm, dtype="<f4").reshape(-1, channels)
    if not np.isfinite(samples).all():
        raise GenerationFailedError("the engine made samples that are no numbers; this is a bug")
    rounded: Samples = np.rint(np.clip(samples, -1.0, 1.0) * _FULL_SCALE).astype("<i2")
    return rounded


class Encoder(Protocol):
    """One track on its way into one format.

    Attributes:
        media_type: for Content-Type.
        content_length: bytes of the whole track, or None if only the encoder can tell.
        is_slow: takes milliseconds for each second of audio and belongs into a thread.
    """

    media_type: str
    content_length: int | None
    is_slow: bool

    def encode(self, samples: Samples) -> bytes:
        """The bytes that are final after these samples; may be empty."""
        ...

    def finish(self) -> bytes:
        """The rest, after the last sample."""
        ...


class PcmEncoder:
    """Raw little-endian signed 16-bit samples, channels interleaved, without a header."""

    is_slow = False

    def __init__(self, sample_rate: int, channels: int, total_samples: int) -> None:
        self.media_type = f"audio/pcm;rate={sample_rate};channels={channels};encoding=s16le"
        self.content_length: int | None = total_samples * channels * 2

    def encode(self, samples: Samples) -> bytes:
        return samples.tobytes()

    def finish(self) -> bytes:
        return b""


class WavEncoder(PcmEncoder):
    """The same samples behind a 44-byte RIFF header with exact sizes."""

    def __init__(self, sample_rate: int, channels: int, total_samples: int) -> None:
        super().__init__(sample_rate, channels, total_samples)
        self.media_type = "audio/wav"
        self.content_length = total_samples * channels * 2 + _WAV_HEADER_BYTES
        self._header = wav_header(sample_rate, channels, total_samples)

    def encode(self, samples: Samples) -> bytes:
        header, self._header = self._header, b""
        return header + super().encode(samples)


def wav_header(sample_rate: int, channels: int, total_samples: int) -> bytes:
    """RIFF header of 16-bit PCM.

    Raises:
        InvalidRequestError: a WAV file can not be that long.
    """
    frame_bytes = 2 * channels
    data_bytes = total_samples * frame_bytes
    if data_bytes + _WAV_HEADER_BYTES > _MAX_WAV_BYTES:
        raise InvalidRequestError("a WAV file holds at most 4 GiB: ask for flac or pcm", param="format")
    sizes = (16, 1, channels, sample_rate, sample_rate * frame_bytes, frame_bytes, 16)
    riff_bytes = data_bytes + _WAV_HEADER_BYTES - 8
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", riff_bytes, b"WAVE", b"fmt ", *sizes, b"data", data_bytes)


class _Sink:
    """A file for libsndfile whose bytes leave at once. Coming back to a header is accepted and has no effect."""

    def __init__(self) -> None:
        self._position = 0
        self._end = 0
        self._ready = bytearray()

    def write(self, data: bytes) -> int:
        if self._position == self._end:
            self._ready += data
            self._end += len(data)
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._end)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        ready = bytes(self._ready)
        self._ready.clear()
        return ready


class SoundFileEncoder:
    """FLAC and MP3 by libsndfile.

    There is no ``close``: a stream that is given up may still have an encode running in a thread, and closing under it
    would free memory in use. The file closes when the last reference goes.

    Args:
        patch_header: gets the first bytes that leave and returns them with the track's length written in.
    """

    content_length: int | None = None
    is_slow = True

    def __init__(
        self, media_type: str, file: Callable[[_Sink], soundfile.SoundFile], patch_header: Callable[[bytes], bytes]
    ) -> None:
        self.media_type = media_type
        self._sink = _Sink()
        self._file = file(self._sink)
        self._patch_header: Callable[[bytes], bytes] | None = patch_header

    def encode(self, samples: Samples) -> bytes:
        self._file.write(samples)
        return self._patched()

    def finish(self) -> bytes:
        self._file.close()
        return self._patched()

    def _patched(self) -> bytes:
        ready = self._sink.take()
        if self._patch_header is not None and ready:
            ready, self._patch_header = self._patch_header(ready), None
        return ready


def flac_encoder(sample_rate: int, channels: int, total_samples: int) -> Encoder:
    def open_file(sink: _Sink) -> soundfile.SoundFile:
        return soundfile.SoundFile(sink, "w", sample_rate, channels, format="FLAC", subtype="PCM_16")

    return SoundFileEncoder("audio/flac", open_file, lambda start: _flac_with_length(start, total_samples))


def _flac_with_length(start: bytes, total_samples: int) -> bytes:
    """Write the number of samples into STREAMINFO: the low 36 of the 64 bits at byte 18 (RFC 9639, section 8.2).

    Without it the field says "unknown", and libsndfile itself refuses to read such a file whole.
    """
    if start[:4] != b"fLaC" or len(start) < 26:
        raise GenerationFailedError("the FLAC encoder began without a STREAMINFO block; this is a bug")
    fields = int.from_bytes(start[18:26], "big") | total_samples
    return start[:18] + fields.to_bytes(8, "big") + start[26:]


def mp3_encoder(sample_rate: int, channels: int, total_samples: int) -> Encoder:
    """MP3 at a constant bit rate, with exact length and gap-less information in its first frame.

    Raises:
        InvalidRequestError: MPEG-1 has no such sample rate.
    """
    if sample_rate not in mp3.SAMPLE_RATES:
        raise InvalidRequestError(f"mp3 can not carry {sample_rate} Hz here: ask for wav or flac", param="format")

    def open_file(sink: _Sink) -> soundfile.SoundFile:
        return soundfile.SoundFile(
            sink, "w", sample_rate, channels, format="MP3", subtype="MPEG_LAYER_III",
            bitrate_mode="CONSTANT", compression_level=mp3.COMPRESSION_LEVEL,
        )  # fmt: skip

    return SoundFileEncoder("audio/mpeg", open_file, lambda start: mp3.with_length(start, sample_rate, total_samples))


_ENCODERS: dict[AudioFormat, Callable[[int, int, int], Encoder]] = {
    "wav": WavEncoder,
    "flac": flac_encoder,
    "mp3": mp3_encoder,
    "pcm": PcmEncoder,
}


def make_encoder(audio_format: AudioFormat, first: AudioChunk) -> Encoder:
    """The encoder of a track, from its first chunk, which knows rate, channels and length."""
    return _ENCODERS[audio_format](first.sample_rate, first.channels, first.total_samples)
