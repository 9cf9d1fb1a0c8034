"""``continuation``: audio that a generation goes on from, from the id in a call to the sound that a replica takes.

Where it lies is written down when the call is accepted, so whoever makes the generation asks no table for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from api.formats.base import FloatSamples
from api.formats.resample import Resampler, resampled_length
from api.storage.audio import AudioLibrary
from api.storage.errors import ObjectMissingError
from api.uploads.reference import Reference
from models.catalog import ModelSpec
from models.config import MAX_DURATION_S
from models.errors import InvalidRequestError
from models.types import AudioPrompt

CONTINUATION = "continuation"


@dataclass(frozen=True, slots=True)
class _Source:
    """Stored audio, and the rate that the model takes; an ``AudioRow``."""

    account_id: str
    object_key: str
    channels: int
    sample_rate: int
    total_samples: int
    wanted_rate: int


def known_frames(reference: Reference, spec: ModelSpec) -> int:
    """So many of a track's frames the audio is; they are worked through at once, and take no steps of their own."""
    samples = resampled_length(reference.total_samples, reference.sample_rate, spec.sample_rate)
    return -(-samples * spec.frame_rate // spec.sample_rate)


def accepted(reference: Reference, spec: ModelSpec, duration_s: float) -> Mapping[str, Any]:
    """What a generation's ``conditioning`` keeps of it.

    Raises:
        InvalidRequestError: it is longer than the model can use, or nothing would be left to make.
    """
    frames = known_frames(reference, spec)
    if frames > MAX_DURATION_S * spec.frame_rate:
        raise InvalidRequestError(
            f"the audio to go on from is {reference.duration_s:g} s long, at most {MAX_DURATION_S:g} s can be used",
            CONTINUATION,
        )
    if frames >= int(duration_s * spec.frame_rate):
        raise InvalidRequestError(
            f"the audio to go on from is {reference.duration_s:g} s long and counts toward the duration: ask for more "
            f"than {duration_s:g} s",
            "duration",
        )
    source = _Source(
        reference.account_id,
        reference.object_key,
        reference.channels,
        reference.sample_rate,
        reference.total_samples,
        spec.sample_rate,
    )
    return {CONTINUATION: reference.id, "source": asdict(source)}


async def sound(conditioning: Mapping[str, Any] | None, library: AudioLibrary) -> AudioPrompt | None:
    """What a replica goes on from; None where a generation begins from nothing.

    Raises:
        InvalidRequestError: it was deleted since.
        StorageError: it can not be read now.
    """
    if not conditioning or CONTINUATION not in conditioning:
        return None
    source = _Source(**conditioning["source"])
    try:
        samples = await library.read(source, 0, source.total_samples)
    except ObjectMissingError as error:
        raise InvalidRequestError("the audio to go on from was deleted", CONTINUATION) from error
    if source.sample_rate != source.wanted_rate:
        samples = await asyncio.to_thread(_resampled, samples, source.sample_rate, source.wanted_rate)
    return AudioPrompt(np.ascontiguousarray(samples, dtype="<f4").tobytes(), source.channels, source.wanted_rate)


def _resampled(samples: FloatSamples, from_hz: int, to_hz: int) -> FloatSamples:
    resampler = Resampler(from_hz, to_hz, samples.shape[1], len(samples))
    return np.concatenate((resampler.push(samples), resampler.finish()))
