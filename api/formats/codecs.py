"""FLAC, MP3 and Ogg-Opus by libsndfile, as streams."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import soundfile

from api.formats import mp3
from api.formats.base import AnySamples, Encoder, FloatSamples
from api.formats.ogg import SerialFixer
from api.formats.resample import Resampler
from models.errors import GenerationFailedError, InvalidRequestError

OPUS_RATE = 48_000
OPUS_BITRATE = 96_000  # bits per second and channel
# libsndfile maps 0…1 to 256…6 kbit/s and channel.
_OPUS_COMPRESSION = (256_000 - OPUS_BITRATE) / 250_000
# At its default of a second, the first sound of a live stream would leave a second late.
_OPUS_PAGE_MS = 100.0
_SFC_SET_OGG_PAGE_LATENCY_MS = 0x1302


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
    """FLAC and MP3.

    There is no ``close``: a stream that is given up may still have an encode running in a thread, and closing under it
    would free memory in use. The file closes when the last reference goes.

    Args:
        patch_header: gets the first bytes that leave and returns them with the track's length written in.
        prepare: brings samples into the form that libsndfile takes.
    """

    content_length: int | None = None
    is_slow = True

    def __init__(
        self,
        media_type: str,
        file: Callable[[_Sink], soundfile.SoundFile],
        patch_header: Callable[[bytes], bytes],
        prepare: Callable[[AnySamples], AnySamples] = lambda samples: samples,
    ) -> None:
        self.media_type = media_type
        self._sink = _Sink()
        self._file = file(self._sink)
        self._patch_header: Callable[[bytes], bytes] | None = patch_header
        self._prepare = prepare

    def encode(self, samples: AnySamples) -> bytes:
        self._file.write(self._prepare(samples))
        return self._patched()

    def finish(self) -> bytes:
        self._file.close()
        return self._patched()

    def _patched(self) -> bytes:
        ready = self._sink.take()
        if self._patch_header is not None and ready:
            ready, self._patch_header = self._patch_header(ready), None
        return ready


def flac_encoder(sample_rate: int, channels: int, total_samples: int, bits: int = 16) -> Encoder:
    """FLAC.

    Args:
        bits: 16 for 16-bit samples, 24 for 32-bit ones whose upper 24 bits count.
    """

    def open_file(sink: _Sink) -> soundfile.SoundFile:
        return soundfile.SoundFile(sink, "w", sample_rate, channels, format="FLAC", subtype=f"PCM_{bits}")

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

    patch = lambda start: mp3.with_length(start, sample_rate, total_samples)  # noqa: E731
    return SoundFileEncoder("audio/mpeg", open_file, patch, _widened if channels == 2 else lambda samples: samples)


def _widened(samples: AnySamples) -> AnySamples:
    """16 bits in the upper half of 32: libsndfile 1.2.2 copies half of each block of 16-bit stereo to LAME and leaves
    the rest to what the memory held before (mpeg_l3_encode_write_short_stereo counts bytes for samples)."""
    return samples.astype(np.int32) << 16


class OpusEncoder:
    """Ogg-Opus at 48 kHz, which is the rate Opus decodes to, whatever the track's.

    Takes 16-bit samples or floats of the track's own rate.
    """

    media_type = "audio/ogg;codecs=opus"
    content_length: int | None = None
    is_slow = True

    def __init__(self, sample_rate: int, channels: int, total_samples: int) -> None:
        self._resampler = (
            None if sample_rate == OPUS_RATE else Resampler(sample_rate, OPUS_RATE, channels, total_samples)
        )
        self._sink = _Sink()
        self._fixer = SerialFixer()
        self._file = soundfile.SoundFile(
            self._sink, "w", OPUS_RATE, channels, format="OGG", subtype="OPUS", compression_level=_OPUS_COMPRESSION
        )
        _set_page_latency(self._file, _OPUS_PAGE_MS)

    def encode(self, samples: AnySamples) -> bytes:
        floats: FloatSamples = samples.astype(np.float32)
        if samples.dtype == np.int16:
            floats /= np.float32(32768)
        return self._write(floats if self._resampler is None else self._resampler.push(floats))

    def finish(self) -> bytes:
        rest = b"" if self._resampler is None else self._write(self._resampler.finish())
        self._file.close()
        return rest + self._fixer.push(self._sink.take()) + self._fixer.finish()

    def _write(self, samples: FloatSamples) -> bytes:
        if len(samples):
            self._file.write(samples)
        return self._fixer.push(self._sink.take())


def opus_encoder(sample_rate: int, channels: int, total_samples: int) -> Encoder:
    return OpusEncoder(sample_rate, channels, total_samples)


def _set_page_latency(file: soundfile.SoundFile, milliseconds: float) -> None:
    """The one command of libsndfile that its Python package has no name for.

    Raises:
        GenerationFailedError: refused; then the library is not the one that was tried.
    """
    value = soundfile._ffi.new("double*", milliseconds)
    if soundfile._snd.sf_command(file._file, _SFC_SET_OGG_PAGE_LATENCY_MS, value, 8) != 0:
        raise GenerationFailedError("libsndfile does not set the length of Ogg pages; this is a bug")
