"""A finished track as a file: format, sample rate and loudness as asked, from its stored float samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from api.formats import codecs, mp3, wav
from api.formats.audio import live_encoder
from api.formats.base import AnySamples, AudioFormat, Encoder, FloatSamples, LiveFormat, quantise16
from api.formats.loudness import Gain, gain_to
from api.formats.resample import Resampler, resampled_length
from models.errors import InvalidRequestError

SAMPLE_RATES = (44_100, 48_000, 96_000)
MIN_LOUDNESS_LUFS, MAX_LOUDNESS_LUFS = -40.0, -5.0
_UNCOMPRESSED: dict[AudioFormat, wav.SampleKind] = {"wav": "s16", "pcm": "s16", "wav24": "s24", "wav32f": "f32"}
_LIVE: dict[AudioFormat, LiveFormat] = {"wav": "wav", "flac": "flac", "mp3": "mp3", "opus": "opus", "pcm": "pcm"}
_MEDIA_TYPES: dict[AudioFormat, str] = {
    "wav": "audio/wav",
    "wav24": "audio/wav",
    "wav32f": "audio/wav",
    "flac": "audio/flac",
    "flac24": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": codecs.OpusEncoder.media_type,
}
_FULL_SCALE_24 = 2**23 - 1


@dataclass(frozen=True, slots=True)
class Rendition:
    """What a file shall be.

    Attributes:
        format: of the bytes.
        sample_rate: Hz; None: the track's own.
        loudness_lufs: wanted loudness; None: the track's own. One gain for the whole track, kept low enough that its
            samples stay below -1 dBFS.

    Raises:
        InvalidRequestError: a value is out of range, or the format cannot carry the sample rate.
    """

    format: AudioFormat = "wav"
    sample_rate: int | None = None
    loudness_lufs: float | None = None

    def __post_init__(self) -> None:
        if self.sample_rate is not None and self.sample_rate not in SAMPLE_RATES:
            raise InvalidRequestError("sample_rate must be 44100, 48000 or 96000, or be left out", "sample_rate")
        if self.format == "opus" and self.sample_rate not in {None, codecs.OPUS_RATE}:
            raise InvalidRequestError("opus is always 48000 Hz: leave sample_rate out", "sample_rate")
        if self.format == "mp3" and self.sample_rate is not None and self.sample_rate not in mp3.SAMPLE_RATES:
            raise InvalidRequestError("mp3 is made at 48000 Hz or the track's own rate: change one", "sample_rate")
        wanted = self.loudness_lufs
        if wanted is not None and not MIN_LOUDNESS_LUFS <= wanted <= MAX_LOUDNESS_LUFS:
            message = f"loudness must be from {MIN_LOUDNESS_LUFS:g} to {MAX_LOUDNESS_LUFS:g} LUFS, or be left out"
            raise InvalidRequestError(message, "loudness")

    def gain(self, loudness_lufs: float | None, peak: float | None) -> Gain | None:
        """What is done to the loudness of a track with these properties; None: nothing was asked."""
        return None if self.loudness_lufs is None else gain_to(self.loudness_lufs, loudness_lufs, peak or 0.0)

    def output_rate(self, sample_rate: int) -> int:
        """Hz of the file of a track of ``sample_rate``."""
        return codecs.OPUS_RATE if self.format == "opus" else self.sample_rate or sample_rate

    def layout(self, sample_rate: int, channels: int, total_samples: int) -> wav.WavLayout | None:
        """Where each sample's bytes lie in an uncompressed file; None of a compressed one."""
        kind = _UNCOMPRESSED.get(self.format)
        if kind is None:
            return None
        rate = self.output_rate(sample_rate)
        total = resampled_length(total_samples, sample_rate, rate)
        return wav.layout(kind, rate, channels, total, headerless=self.format == "pcm")

    def media_type(self, sample_rate: int, channels: int) -> str:
        """For Content-Type; the arguments are the file's."""
        if self.format == "pcm":
            return wav.pcm_media_type(sample_rate, channels)
        return _MEDIA_TYPES[self.format]

    def quantise(self, samples: FloatSamples, factor: np.float32 | None) -> AnySamples:
        """Samples as the format holds them, after the gain; clipped, but for wav32f.

        Raises:
            GenerationFailedError: a sample is not a number.
        """
        scaled = samples if factor is None else samples * factor
        if self.format == "wav32f":
            return scaled.astype("<f4")
        if self.format not in {"wav24", "flac24"}:
            return quantise16(scaled)
        rounded = np.rint(np.clip(scaled.astype(np.float64), -1.0, 1.0) * _FULL_SCALE_24).astype("<i4")
        if self.format == "flac24":
            return rounded << 8
        return np.ascontiguousarray(rounded).view(np.uint8).reshape(-1, 4)[:, :3]


class FileEncoder:
    """One track on its way into one file: float samples in, bytes out. Slow: belongs into a thread.

    Args:
        sample_rate, channels, total_samples: of the track.
        factor: multiplies every sample; None: they stay as they are.
    """

    def __init__(
        self, rendition: Rendition, sample_rate: int, channels: int, total_samples: int, factor: np.float32 | None
    ) -> None:
        rate = sample_rate if rendition.format == "opus" else rendition.output_rate(sample_rate)
        total = resampled_length(total_samples, sample_rate, rate)
        self._rendition = rendition
        self._factor = factor
        self._resampler = Resampler(sample_rate, rate, channels, total_samples) if rate != sample_rate else None
        self._encoder = _encoder(rendition.format, rate, channels, total)

    def encode(self, samples: FloatSamples) -> bytes:
        """The bytes that are final after these samples; may be empty."""
        return self._encode(samples if self._resampler is None else self._resampler.push(samples))

    def finish(self) -> bytes:
        """The rest, after the last sample."""
        rest = b"" if self._resampler is None else self._encode(self._resampler.finish())
        return rest + self._encoder.finish()

    def _encode(self, samples: FloatSamples) -> bytes:
        return self._encoder.encode(self._rendition.quantise(samples, self._factor)) if len(samples) else b""


def _encoder(audio_format: AudioFormat, sample_rate: int, channels: int, total_samples: int) -> Encoder:
    if audio_format in _LIVE:
        return live_encoder(_LIVE[audio_format], sample_rate, channels, total_samples)
    if audio_format == "flac24":
        return codecs.flac_encoder(sample_rate, channels, total_samples, bits=24)
    return wav.WavEncoder(sample_rate, channels, total_samples, _UNCOMPRESSED[audio_format])
