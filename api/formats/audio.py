"""Audio formats as streams: samples in, bytes out, nothing held back but what a codec needs.

The length of a track is known before its first sample, so WAV and raw PCM have exact headers and an exact number of
bytes, and FLAC and MP3 state their length in a header that an encoder would otherwise come back to at the end. The
bytes depend on the samples alone, not on how they were cut into pieces, nor on time, chance or place: a track that is
fetched while it is made, afterwards, and from another replica is the same file. (Codecs compute in floating point:
another version of theirs, or a processor with other vector units, may choose other bits.)
"""

from __future__ import annotations

from collections.abc import Callable

from api.formats import codecs, wav
from api.formats.base import (
    FORMATS,
    LIVE_FORMATS,
    AnySamples,
    AudioFormat,
    Encoder,
    FloatSamples,
    LiveFormat,
    Samples,
    extension,
    quantise16,
    to_pcm16,
)
from models.types import AudioChunk

__all__ = [
    "FORMATS",
    "LIVE_FORMATS",
    "AnySamples",
    "AudioFormat",
    "Encoder",
    "FloatSamples",
    "LiveFormat",
    "Samples",
    "extension",
    "live_encoder",
    "make_encoder",
    "quantise16",
    "to_pcm16",
]

_ENCODERS: dict[LiveFormat, Callable[[int, int, int], Encoder]] = {
    "wav": wav.WavEncoder,
    "flac": codecs.flac_encoder,
    "mp3": codecs.mp3_encoder,
    "opus": codecs.opus_encoder,
    "pcm": wav.PcmEncoder,
}


def live_encoder(audio_format: LiveFormat, sample_rate: int, channels: int, total_samples: int) -> Encoder:
    """The encoder of a track of 16-bit samples.

    Raises:
        InvalidRequestError: the format cannot carry that sample rate.
    """
    return _ENCODERS[audio_format](sample_rate, channels, total_samples)


def make_encoder(audio_format: LiveFormat, first: AudioChunk) -> Encoder:
    """The encoder of a track, from its first chunk, which knows rate, channels and length."""
    return live_encoder(audio_format, first.sample_rate, first.channels, first.total_samples)
