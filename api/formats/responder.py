"""The response with a finished track: whole or in ranges, with a strong ETag, for GET and HEAD."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.formats import ranges
from api.formats.rendition import Rendition
from api.formats.renditions import Renditions
from api.formats.track_file import FinishedTrack, TrackFile


async def respond(
    renditions: Renditions,
    request: Request,
    row: Any,
    rendition: Rendition,
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer a GET or HEAD for the audio of a track that has succeeded.

    Args:
        renditions: of the audio library.
        row: of ``tracks`` (or a view with its columns), already looked up for the account that asks.
        headers: further headers.

    Raises:
        ApiError: audio_not_ready; range_not_satisfiable; system_overloaded if too many files are being encoded.
        StorageError: the audio cannot be read; before the first byte.
    """
    file = TrackFile(FinishedTrack.of(row), rendition)
    sent = {**_headers(file), **(headers or {})}
    if ranges.is_known(request.headers, file.etag):
        return Response(status_code=304, headers=sent)
    if file.sliceable is not None:
        return await _sliced(renditions, request, file, sent)
    if file.is_small:
        return await _encoded(renditions, request, file, sent)
    return await _streamed(renditions, request, file, sent)


async def _sliced(renditions: Renditions, request: Request, file: TrackFile, headers: dict[str, str]) -> Response:
    assert file.layout is not None
    start, stop, status = _choose(request, headers, file.layout.size)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    body = await _begun(renditions.part(file, start, stop))
    return StreamingResponse(body, status_code=status, headers=headers)


async def _encoded(renditions: Renditions, request: Request, file: TrackFile, headers: dict[str, str]) -> Response:
    data = await renditions.whole(file)
    start, stop, status = _choose(request, headers, len(data))
    return Response(b"" if request.method == "HEAD" else data[start:stop], status_code=status, headers=headers)


async def _streamed(renditions: Renditions, request: Request, file: TrackFile, headers: dict[str, str]) -> Response:
    """Too large to be kept: sent as it is encoded, always whole."""
    headers["Accept-Ranges"] = "none"
    if file.layout is not None:
        headers["Content-Length"] = str(file.layout.size)
    if request.method == "HEAD":
        return _Bare(headers=headers)
    return StreamingResponse(await _begun(renditions.stream(file)), headers=headers)


class _Bare(Response):
    """No body, and no Content-Length of 0, which would be untrue of the file."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        self.raw_headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (headers or {}).items()]


def _choose(request: Request, headers: dict[str, str], size: int) -> tuple[int, int, int]:
    """(start, stop, status), and their headers."""
    headers["Accept-Ranges"] = "bytes"
    asked = ranges.requested_range(request.headers, headers["ETag"], size)
    start, stop = asked or (0, size)
    headers["Content-Length"] = str(stop - start)
    if asked is None:
        return start, stop, 200
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return start, stop, 206


async def _begun(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same body once its first two pieces are there: what cannot be read is refused with a clean status.

    Two, since the first one may be a header, for which nothing was read yet.
    """
    first: list[bytes] = []
    while len(first) < 2 and (piece := await anext(body, None)) is not None:
        first.append(piece)

    async def whole() -> AsyncIterator[bytes]:
        for piece in first:
            yield piece
        async for piece in body:
            yield piece

    return whole()


def _headers(file: TrackFile) -> dict[str, str]:
    headers = {
        "Content-Type": file.media_type,
        "Content-Disposition": f'inline; filename="{file.name}"',
        "Cache-Control": "private, no-cache, no-transform",
        "ETag": file.etag,
        "X-Sample-Rate": str(file.sample_rate),
        "X-Channels": str(file.track.channels),
        "X-Audio-Duration": f"{file.duration_s:.6f}",
    }
    if file.gain is not None:
        headers["X-Loudness-Gain"] = f"{file.gain.db:.2f} dB"
        headers["X-Loudness-Limited"] = "true" if file.gain.is_limited else "false"
        if file.gain.loudness_lufs is not None:
            headers["X-Loudness"] = f"{file.gain.loudness_lufs:.2f} LUFS"
    return headers
