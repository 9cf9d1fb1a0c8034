"""Sound that a replica is given beside the words: read where it lies, at the model's rate, few of them at once.

A melody of two minutes is 46 MB as it is stored and 15 MB as a replica takes it, and a worker may begin a dozen at a
time. So it is read block by block, only some are read at once, and nobody keeps what has been handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from api.formats.base import FloatSamples
from api.formats.resample import Resampler
from api.generations.style import SOURCE as STYLE_SOURCE
from api.generations.style import STYLE
from api.storage.audio import AudioLibrary
from api.storage.errors import ObjectMissingError, SealBrokenError
from api.uploads.decode import INAUDIBLE
from models.errors import InvalidRequestError
from models.style_prompt import StylePrompt
from models.types import AudioPrompt, CodePrompt

CONTINUATION: Final = "continuation"
MELODY: Final = "melody"
READ_AT_ONCE: Final = 2
_BLOCK_SAMPLES: Final = 480_000  # ten seconds of what uploads are kept at
KEPT_IN: Final = {CONTINUATION: "source", MELODY: "melody_source", STYLE: STYLE_SOURCE}
"""Use → where a generation's ``conditioning`` says what lies where."""


@dataclass(frozen=True, slots=True)
class Source:
    """Stored audio, and how the model takes it; an ``AudioRow``.

    Attributes:
        wanted_rate: Hz.
        used_samples: from its beginning, at its own rate; None: all.
        num_codebooks, frames: of its codes, if the same model made it; 0: another did, or nobody.
    """

    account_id: str
    object_key: str
    channels: int
    sample_rate: int
    total_samples: int
    wanted_rate: int
    used_samples: int | None = None
    num_codebooks: int = 0
    frames: int = 0

    @property
    def heard_samples(self) -> int:
        return self.total_samples if self.used_samples is None else self.used_samples


def source_of(conditioning: Mapping[str, Any] | None, use: str) -> Source | None:
    """What a generation was accepted with; None: nothing for this use."""
    return Source(**conditioning[KEPT_IN[use]]) if conditioning and use in conditioning else None


@dataclass(frozen=True, slots=True)
class Sounds:
    """What a replica is given beside the words."""

    continues: CodePrompt | AudioPrompt | None = None
    melody: AudioPrompt | None = None
    style: StylePrompt | None = None


class SoundReader:
    """Of one worker, for all its generations."""

    def __init__(self, library: AudioLibrary, at_once: int = READ_AT_ONCE) -> None:
        self._library = library
        self._turns = asyncio.Semaphore(at_once)

    async def read(self, conditioning: Mapping[str, Any] | None) -> Sounds:
        """What a replica is given, at the model's rate. Waits while others read.

        Raises:
            InvalidRequestError: it was deleted since, or a melody's or style's two channels cancel out.
            StorageError: it can not be read now.
        """
        known, tune, like = (source_of(conditioning, use) for use in (CONTINUATION, MELODY, STYLE))
        if conditioning is None or (known is None and tune is None and like is None):
            return Sounds()
        async with self._turns:
            codes = None if known is None else await _codes(known, self._library)
            continues = codes or await _sound(known, self._library, CONTINUATION)
            melody, style = await _sound(tune, self._library, MELODY), await _sound(like, self._library, STYLE)
        heard = (
            None if style is None else StylePrompt(style, conditioning["style_excerpt"], conditioning["style_streams"])
        )
        return Sounds(continues, melody, heard)


def packed(codes: bytes) -> bytes:
    """Codes of a track as they are stored: little-endian uint16 ``[K, frames]``.

    Args:
        codes: as in ``AudioChunk``.
    """
    return np.frombuffer(codes, "<i8").astype("<u2").tobytes()


async def _codes(source: Source, library: AudioLibrary) -> CodePrompt | None:
    """What it was decoded from: a track that goes on from this begins as it does, which sound that is encoded again
    does not. None: nobody stored it, or as something else."""
    if not source.num_codebooks:
        return None
    stored = None
    with suppress(SealBrokenError):  # the sound is there
        stored = await library.codes(source.account_id, source.object_key)
    if stored is None or len(stored) != 2 * source.num_codebooks * source.frames:
        return None
    return CodePrompt(np.frombuffer(stored, "<u2").astype("<i8").tobytes(), source.num_codebooks)


async def _sound(source: Source | None, library: AudioLibrary, use: str) -> AudioPrompt | None:
    if source is None:
        return None
    intake = _Intake(source, use)
    try:
        for first in range(0, source.heard_samples, _BLOCK_SAMPLES):
            block = await library.read(source, first, min(_BLOCK_SAMPLES, source.heard_samples - first))
            await asyncio.to_thread(intake.take, block)
    except ObjectMissingError as error:
        what = "audio to go on from" if use == CONTINUATION else use
        raise InvalidRequestError(f"the {what} was deleted", use) from error
    return await asyncio.to_thread(intake.prompt)


class _Intake:
    """Sound on its way in, as the model takes it."""

    def __init__(self, source: Source, use: str) -> None:
        self._use, self._in_mono = use, use != CONTINUATION  # neither a tune nor a style has sides
        self._rate = source.wanted_rate
        self._channels = 1 if self._in_mono else source.channels
        self._is_heard = False
        self._pcm = bytearray()
        self._resampler: Resampler | None = None
        if source.sample_rate != source.wanted_rate:
            rates = source.sample_rate, source.wanted_rate
            self._resampler = Resampler(*rates, self._channels, source.heard_samples)

    def take(self, samples: FloatSamples) -> None:
        if self._in_mono:
            samples = samples.mean(axis=1, keepdims=True)
            self._is_heard = self._is_heard or bool(np.abs(samples).max() >= INAUDIBLE)
        self._keep(samples if self._resampler is None else self._resampler.push(samples))

    def prompt(self) -> AudioPrompt:
        """
        Raises:
            InvalidRequestError: nothing can be heard in one channel.
        """
        if self._in_mono and not self._is_heard:
            raise InvalidRequestError(f"the {self._use}'s two channels cancel out: send one of them", self._use)
        if self._resampler is not None:
            self._keep(self._resampler.finish())
        return AudioPrompt(bytes(self._pcm), self._channels, self._rate)

    def _keep(self, samples: FloatSamples) -> None:
        self._pcm += np.ascontiguousarray(samples, dtype="<f4").tobytes()
