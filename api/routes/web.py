"""The page at ``/`` and the list of error codes: plain files, read once, nothing from a third party."""

from __future__ import annotations

import hashlib
import html
import re
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.auth.policy import public
from api.deprecations import DEPRECATIONS
from api.errors import ERROR_PAGE, ApiError, ErrorCode

WEB_FOLDER = Path(__file__).resolve().parents[1] / "web"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_BETWEEN_BACKTICKS = re.compile("`([^`]+)`")
_AS_CODE = r"<code>\1</code>"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class _Page:
    content: bytes
    media_type: str
    etag: str


def _page(content: bytes, media_type: str) -> _Page:
    return _Page(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _read(folder: Path) -> dict[str, _Page]:
    files = sorted(path for path in folder.iterdir() if path.suffix in _MEDIA_TYPES)
    return {path.name: _page(path.read_bytes(), _MEDIA_TYPES[path.suffix]) for path in files}


def _errors_page() -> bytes:
    entries = "".join(
        f'<dt id="{code.value}"><code>{code.value}</code> <span>{code.status}</span></dt>'
        f"<dd>{_prose(code.meaning)}</dd>"
        for code in ErrorCode
    )
    old = "".join(
        f'<dt id="{one.name}"><code>{one.name}</code></dt><dd>{_prose(one.what)}'
        f"{f' Works until {one.sunset:%-d %B %Y}.' if one.sunset else ''}</dd>"
        for one in DEPRECATIONS
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tutti: error codes</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="web/icon.svg"><link rel="stylesheet" href="web/style.css"></head>'
        '<body class="document"><main><p><a href="./">Tutti</a></p><h1>Error codes</h1>'
        "<p>Every answer that is no success carries one of these as <code>error.code</code>.</p>"
        f"<dl>{entries}</dl><h1>Deprecated</h1>"
        "<p>These still work; answers that use them carry <code>Deprecation</code> and <code>Sunset</code>.</p>"
        f"<dl>{old}</dl></main></body></html>"
    ).encode()


def _prose(text: str) -> str:
    return _BETWEEN_BACKTICKS.sub(_AS_CODE, html.escape(text))


def make_router(folder: Path = WEB_FOLDER) -> APIRouter:
    """Routes of the page's files. They are read here, so a missing one stops the start and not a visitor."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(public)])
    files = _read(folder)
    index, errors = files.pop("index.html"), _page(_errors_page(), _MEDIA_TYPES[".html"])

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return _answer(request, index)

    @router.api_route(ERROR_PAGE, methods=["GET", "HEAD"])
    async def error_codes(request: Request) -> Response:
        return _answer(request, errors)

    @router.api_route("/web/{name}", methods=["GET", "HEAD"])
    async def file(name: str, request: Request) -> Response:
        if name not in files:
            raise ApiError(ErrorCode.NOT_FOUND)
        return _answer(request, files[name])

    return router


def _answer(request: Request, page: _Page) -> Response:
    headers = {"ETag": page.etag, "Cache-Control": "no-cache", "Content-Security-Policy": _PAGE_POLICY}
    if page.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(page.content, media_type=page.media_type, headers=headers)
