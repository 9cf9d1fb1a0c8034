"""Audio that a generation refers to, from the ids in a call to where it lies.

``continuation`` is music that it goes on from, ``melody`` music whose tune it follows. Where it lies is written down
when the call is accepted, so whoever makes the generation asks no table for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from api.formats.resample import resampled_length
from api.generations import style
from api.generations.sounds import CONTINUATION, KEPT_IN, MELODY, Source, source_of
from api.generations.steps import WINDOW_S, frames_of
from api.generations.style import STYLE
from api.uploads import service as uploads
from api.uploads.reference import Reference, Use, refuse, resolve
from models.catalog import ModelSpec
from models.errors import InvalidRequestError

LONGEST_MELODY_S = 120.0
"""A replica is sent the melody with each track: 15 MB of samples."""
_MELODY_MARGIN_S = 31.0  # the last window may begin just before the end, and a spectrum's frames reach a little further
_ATTEMPTS = timedelta(hours=1)  # the time in the hands of workers who fail is added to what it may wait


@dataclass(frozen=True, slots=True)
class Accepted:
    """
    Attributes:
        kept: the generation's ``conditioning``.
        known_frames: of each track, which are there before it begins.
    """

    kept: Mapping[str, Any]
    known_frames: int


def check(wanted: Mapping[str, Any], spec: ModelSpec) -> None:
    """
    Raises:
        ApiError: conditioning_unsupported, naming what this model can not listen to.
        InvalidRequestError: of a style that is not there, or more of it than the model can hear.
    """
    takes: dict[Use, bool] = {
        MELODY: spec.takes_melody,
        CONTINUATION: spec.goes_on_from_audio,
        STYLE: spec.style is not None,
    }
    for use, is_taken in takes.items():
        if use in wanted and not is_taken:
            raise refuse(spec.id, use)
    style.check(wanted, spec)


async def accept(
    conn: AsyncConnection,
    account_id: str,
    wanted: Mapping[str, Any],
    spec: ModelSpec,
    duration_s: float,
    now: datetime,
) -> Accepted:
    """Look at what is referred to.

    Args:
        wanted: use → id, and how a style is heard; the model takes all of it.

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
    if STYLE in wanted:
        reference = await resolve(conn, account_id, wanted[STYLE], now)
        kept |= {**_kept(STYLE, reference, _of(reference, spec)), **style.accepted(wanted, reference, spec, known)}
    return Accepted(kept, known)


async def keep(conn: AsyncConnection, conditioning: Mapping[str, Any] | None, until: datetime) -> None:
    """Let the uploads that it refers to stay until then, and as long as attempts may take: each reads them anew."""
    ids = [conditioning[use] for use in (CONTINUATION, MELODY, STYLE) if use in conditioning] if conditioning else []
    if found := [each for each in ids if each.startswith("upl_")]:
        await uploads.keep(conn, found, until + _ATTEMPTS)


def melody_heard_s(conditioning: Mapping[str, Any] | None) -> float | None:
    """Seconds of the melody that a generation listens to; None: it has none."""
    source = source_of(conditioning, MELODY)
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


def _of(reference: Reference, spec: ModelSpec) -> Source:
    return Source(
        reference.account_id,
        reference.object_key,
        reference.channels,
        reference.sample_rate,
        reference.total_samples,
        spec.sample_rate,
    )


def _kept(use: str, reference: Reference, source: Source) -> Mapping[str, Any]:
    return {use: reference.id, KEPT_IN[use]: asdict(source)}
