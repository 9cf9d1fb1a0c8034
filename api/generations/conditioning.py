"""Audio that a generation refers to, from the ids in a call to the sound that a replica takes.

``continuation`` is music that it goes on from, ``melody`` music whose tune it follows. Where it lies is written down
when the call is accepted, so whoever makes the generation asks no table for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from api.formats.base import FloatSamples
from api.formats.resample import Resampler, resampled_length
from api.generations.steps import WINDOW_S, frames_of
from api.storage.audio import AudioLibrary
from api.storage.errors import ObjectMissingError, SealBrokenError
from api.uploads import service as uploads
from api.uploads.decode import INAUDIBLE
from api.uploads.reference import Reference, Use, refuse, resolve
from models.catalog import ModelSpec
from models.errors import InvalidRequestError
from models.types import AudioPrompt, CodePrompt

CONTINUATION: Final = "continuation"
MELODY: Final = "melody"
STYLE: Final = "style"
LONGEST_MELODY_S = 120.0
"""A replica is sent the melody with each track: 15 MB of samples."""
_MELODY_MARGIN_S = 31.0  # the last window may begin just before the end, and a spectrum's frames reach a little further
_ATTEMPTS = timedelta(hours=1)  # the time in the hands of workers who fail is added to what it may wait
_KEPT_IN = {CONTINUATION: "source", MELODY: "melody_source"}


@dataclass(frozen=True, slots=True)
class _Source:
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


@dataclass(frozen=True, slots=True)
class Accepted:
    """
    Attributes:
        kept: the generation's ``conditioning``.
        known_frames: of each track, which are there before it begins.
    """

    kept: Mapping[str, Any]
    known_frames: int


@dataclass(frozen=True, slots=True)
class Sounds:
    """What a replica is given beside the words."""

    continues: CodePrompt | AudioPrompt | None = None
    melody: AudioPrompt | None = None


def check(wanted: Mapping[str, str], spec: ModelSpec) -> None:
    """
    Raises:
        ApiError: conditioning_unsupported, naming what this model can not listen to.
    """
    takes: dict[Use, bool] = {MELODY: spec.takes_melody, CONTINUATION: spec.goes_on_from_audio, STYLE: False}
    for use, is_taken in takes.items():
        if use in wanted and not is_taken:
            raise refuse(spec.id, use)


async def accept(
    conn: AsyncConnection,
    account_id: str,
    wanted: Mapping[str, str],
    spec: ModelSpec,
    duration_s: float,
    now: datetime,
) -> Accepted:
    """Look at what is referred to.

    Args:
        wanted: use → id; the model takes all of them.

    Raises:
        ApiError: audio_not_found, audio_not_ready.
        InvalidRequestError: it is longer than the model can use, nothing would be left to make, or it is silent.
    """
    kept: dict[str, Any] = {}
    known = 0
    if CONTINUATION in wanted:
        reference = await resolve(conn, account_id, wanted[CONTINUATION], now)
        known = _known_frames(reference, spec, duration_s)
        source = _of(reference, spec)
        if reference.model_id == spec.id:
            source = replace(source, num_codebooks=spec.num_codebooks, frames=known)
        kept |= _kept(CONTINUATION, reference, source)
    if MELODY in wanted:
        reference = await resolve(conn, account_id, wanted[MELODY], now)
        source = replace(_of(reference, spec), used_samples=_melody_samples(reference, duration_s))
        kept |= _kept(MELODY, reference, source)
    return Accepted(kept, known)


async def keep(conn: AsyncConnection, conditioning: Mapping[str, Any] | None, until: datetime) -> None:
    """Let the uploads that it refers to stay until then, and as long as attempts may take: each reads them anew."""
    ids = [conditioning[use] for use in (CONTINUATION, MELODY) if use in conditioning] if conditioning else []
    if found := [each for each in ids if each.startswith("upl_")]:
        await uploads.keep(conn, found, until + _ATTEMPTS)


async def sounds(conditioning: Mapping[str, Any] | None, library: AudioLibrary) -> Sounds:
    """What a replica is given, at the model's rate.

    Raises:
        InvalidRequestError: it was deleted since.
        StorageError: it can not be read now.
    """
    known, tune = _source(conditioning, CONTINUATION), _source(conditioning, MELODY)
    codes = None if known is None else await _codes(known, library)
    return Sounds(codes or await _sound(known, library, CONTINUATION), await _sound(tune, library, MELODY))


def melody_heard_s(conditioning: Mapping[str, Any] | None) -> float | None:
    """Seconds of the melody that a generation listens to; None: it has none."""
    source = _source(conditioning, MELODY)
    return None if source is None else source.heard_samples / source.sample_rate


def _known_frames(reference: Reference, spec: ModelSpec, duration_s: float) -> int:
    samples = resampled_length(reference.total_samples, reference.sample_rate, spec.sample_rate)
    frames = -(-samples * spec.frame_rate // spec.sample_rate)
    if frames > frames_of(WINDOW_S, spec):
        raise InvalidRequestError(
            f"the audio to go on from is {reference.duration_s:g} s long, at most {WINDOW_S:g} s can be used",
            CONTINUATION,
        )
    if frames >= frames_of(duration_s, spec):
        raise InvalidRequestError(
            f"the audio to go on from is {reference.duration_s:g} s long and counts toward the duration: ask for more "
            f"than {duration_s:g} s",
            "duration",
        )
    return frames


def _melody_samples(reference: Reference, duration_s: float) -> int:
    """So much of it can be heard in a track: the rest stays where it is."""
    if reference.duration_s > LONGEST_MELODY_S:
        raise InvalidRequestError(
            f"the melody is {reference.duration_s:g} s long, at most {LONGEST_MELODY_S:g} s can be used: send a part",
            MELODY,
        )
    if reference.is_silent:
        raise InvalidRequestError("the melody is silent: there is no tune to follow", MELODY)
    return min(reference.total_samples, int((duration_s + _MELODY_MARGIN_S) * reference.sample_rate))


def _of(reference: Reference, spec: ModelSpec) -> _Source:
    return _Source(
        reference.account_id,
        reference.object_key,
        reference.channels,
        reference.sample_rate,
        reference.total_samples,
        spec.sample_rate,
    )


def _kept(use: str, reference: Reference, source: _Source) -> Mapping[str, Any]:
    return {use: reference.id, _KEPT_IN[use]: asdict(source)}


def _source(conditioning: Mapping[str, Any] | None, use: str) -> _Source | None:
    return _Source(**conditioning[_KEPT_IN[use]]) if conditioning and use in conditioning else None


def packed(codes: bytes) -> bytes:
    """Codes of a track as they are stored: little-endian uint16 ``[K, frames]``.

    Args:
        codes: as in ``AudioChunk``.
    """
    return np.frombuffer(codes, "<i8").astype("<u2").tobytes()


async def _codes(source: _Source, library: AudioLibrary) -> CodePrompt | None:
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


async def _sound(source: _Source | None, library: AudioLibrary, use: str) -> AudioPrompt | None:
    if source is None:
        return None
    try:
        samples = await library.read(
            source, 0, source.total_samples if source.used_samples is None else source.used_samples
        )
    except ObjectMissingError as error:
        what = "audio to go on from" if use == CONTINUATION else use
        raise InvalidRequestError(f"the {what} was deleted", use) from error
    return await asyncio.to_thread(_prompt, samples, source, in_mono=use == MELODY)  # a tune has no sides


def _prompt(samples: FloatSamples, source: _Source, *, in_mono: bool) -> AudioPrompt:
    if in_mono:
        samples = samples.mean(axis=1, keepdims=True)
        if np.abs(samples).max() < INAUDIBLE:
            raise InvalidRequestError("the melody's two channels cancel out: send one of them", MELODY)
    if source.sample_rate != source.wanted_rate:
        resampler = Resampler(source.sample_rate, source.wanted_rate, samples.shape[1], len(samples))
        samples = np.concatenate((resampler.push(samples), resampler.finish()))
    return AudioPrompt(np.ascontiguousarray(samples, dtype="<f4").tobytes(), samples.shape[1], source.wanted_rate)
