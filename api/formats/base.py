"""What every format shares: names, samples, and what an encoder is."""

from __future__ import annotations

from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from models.errors import GenerationFailedError

LiveFormat = Literal["wav", "flac", "mp3", "opus", "pcm"]
"""Made from 16-bit samples; can be had while the track is being made, too."""
AudioFormat = Literal["wav", "flac", "mp3", "opus", "pcm", "wav24", "wav32f", "flac24"]
"""The last three hold more than 16 bits of each sample and are made of finished tracks only."""
LIVE_FORMATS: tuple[LiveFormat, ...] = get_args(LiveFormat)
FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)
EXTENSIONS: dict[AudioFormat, str] = {"wav24": "wav", "wav32f": "wav", "flac24": "flac"}

Samples = npt.NDArray[np.int16]  # [samples, channels]
FloatSamples = npt.NDArray[np.float32]  # the same, in [-1, 1]
AnySamples = npt.NDArray[Any]

_FULL_SCALE = 32767


def to_pcm16(pcm: bytes, channels: int) -> Samples:
    """Float samples in [-1, 1] → 16-bit ``[samples, channels]``: rounded to nearest, no dither, clipped, never wrapped.

    Raises:
        GenerationFailedError: a sample is not a number.
    """
    return quantise16(np.frombuffer(pcm, dtype="<f4").reshape(-1, channels))


def quantise16(samples: FloatSamples) -> Samples:
    """As ``to_pcm16``, of an array.

    Raises:
        GenerationFailedError: a sample is not a number.
    """
    if not np.isfinite(samples).all():
        raise GenerationFailedError("the engine made samples that are no numbers; this is a bug")
    rounded: Samples = np.rint(np.clip(samples, -1.0, 1.0) * _FULL_SCALE).astype("<i2")
    return rounded


def extension(audio_format: AudioFormat) -> str:
    """The end of a file's name, without the dot."""
    return EXTENSIONS.get(audio_format, audio_format)


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

    def encode(self, samples: AnySamples) -> bytes:
        """The bytes that are final after these samples; may be empty."""
        ...

    def finish(self) -> bytes:
        """The rest, after the last sample."""
        ...
