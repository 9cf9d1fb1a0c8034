"""``/api/v1/audio``: the account's tracks, their audio and their waveforms."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.datastructures import URL

from api.auth.policy import require
from api.auth.principal import Principal, Scope
from api.errors import ApiError, ErrorCode
from api.formats.responder import respond
from api.gallery import tracks
from api.negotiation import AUDIO_RESPONSES, AudioOptions
from api.schemas.errors import error_responses
from api.schemas.gallery import GalleryQuery, Peaks, Track, TrackPage
from api.services import Provided
from api.storage.peaks import MAX_BINS, fewer_bins

router = APIRouter(prefix="/api/v1/audio", tags=["gallery"])

Reader = Annotated[Principal, Depends(require(Scope.AUDIO_READ))]
Writer = Annotated[Principal, Depends(require(Scope.AUDIO_WRITE))]
_ONE = error_responses(ErrorCode.AUDIO_NOT_FOUND)
_STORED = (ErrorCode.AUDIO_NOT_FOUND, ErrorCode.AUDIO_NOT_READY)


@router.get("", summary="List tracks")
async def list_tracks(
    request: Request, response: Response, services: Provided, principal: Reader, asked: Annotated[GalleryQuery, Query()]
) -> TrackPage:
    """The newest first. Follow `next` (also in the Link header) for more: tracks that are added or removed meanwhile
    make nothing appear twice or go missing."""
    async with services.db.read() as conn:
        rows, cursor = await tracks.page(conn, principal.account_id, asked.filters(), asked.limit, asked.cursor)
    following = _next(request.url, cursor) if cursor is not None else None
    if following is not None:
        response.headers["Link"] = f'<{following}>; rel="next"'
    return TrackPage(data=[Track.of(row) for row in rows], next_cursor=cursor, next=following)


@router.get("/{track_id}", summary="One track", responses=_ONE)
async def get_track(track_id: str, services: Provided, principal: Reader) -> Track:
    async with services.db.read() as conn:
        return Track.of(await tracks.get(conn, principal.account_id, track_id))


@router.delete(
    "/{track_id}",
    status_code=204,
    summary="Remove a track",
    responses=error_responses(ErrorCode.AUDIO_NOT_FOUND, ErrorCode.TRACK_BUSY),
)
async def remove_track(track_id: str, services: Provided, principal: Writer) -> None:
    """The track is gone with the answer, its audio from storage soon after. One that is being made is not removed:
    cancel its generation first."""
    async with services.db.begin() as conn:
        await tracks.remove(conn, principal.account_id, track_id, services.clock())


_DATA: dict[str, Any] = {
    "response_class": Response,
    "responses": AUDIO_RESPONSES
    | error_responses(
        *_STORED,
        ErrorCode.NOT_ACCEPTABLE,
        ErrorCode.RANGE_NOT_SATISFIABLE,
        ErrorCode.SYSTEM_OVERLOADED,
        ErrorCode.STORAGE_UNAVAILABLE,
    ),
}


@router.get("/{track_id}/data", summary="A track's audio", **_DATA)
@router.head("/{track_id}/data", summary="What a track's audio would be", **_DATA)
async def track_data(
    track_id: str, request: Request, services: Provided, principal: Reader, options: AudioOptions
) -> Response:
    """Whole, or a Range of it. The same options give the same bytes at any time, named by the ETag: downloads can be
    resumed with If-Range, and players can seek. Formats other than wav and pcm are encoded when they are asked for."""
    async with services.db.read() as conn:
        row = await tracks.get(conn, principal.account_id, track_id)
    return await respond(services.audio.renditions, request, row, options)


@router.get("/{track_id}/peaks", summary="A track's waveform", responses=error_responses(*_STORED))
async def track_peaks(
    track_id: str,
    response: Response,
    services: Provided,
    principal: Reader,
    bins: Annotated[int, Query(ge=1, le=MAX_BINS, description="How many there shall be at most")] = MAX_BINS,
) -> Peaks:
    async with services.db.read() as conn:
        row = await tracks.get(conn, principal.account_id, track_id)
    if row.peaks is None:
        raise ApiError(ErrorCode.AUDIO_NOT_READY)
    minima, maxima = fewer_bins(row.peaks, bins)
    response.headers["Cache-Control"] = "private, no-cache"
    return Peaks(bins=len(minima), duration=row.total_samples / row.sample_rate, minima=minima, maxima=maxima)


def _next(url: URL, cursor: str) -> str:
    """Relative, since a proxy may have changed the host."""
    following = url.include_query_params(cursor=cursor)
    return f"{following.path}?{following.query}"
