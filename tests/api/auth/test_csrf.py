"""Requests that browsers send on their own: where they come from, and the session's token."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection

from api.auth.csrf import CSRF_HEADER, CsrfGuard
from api.errors import ApiError, ErrorCode

GUARD = CsrfGuard(("s" * 40,), "https://music.example")
HOST = "internal:8000"


def request(method: str = "POST", **headers: str) -> HTTPConnection:
    raw = [(b"host", HOST.encode())]
    raw += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    kind = "websocket" if method == "WEBSOCKET" else "http"
    return HTTPConnection({"type": kind, "method": method, "headers": raw})


def refused(connection: HTTPConnection, session_id: str = "ses_1") -> bool:
    try:
        GUARD.check(connection, session_id)
    except ApiError as error:
        return error.code is ErrorCode.CSRF_FAILED
    return False


def own_token(**headers: str) -> dict[str, str]:
    return {CSRF_HEADER.lower().replace("-", "_"): GUARD.token("ses_1"), **headers}


SITES = {
    "same-origin": True,
    "none": True,
    "Same-Origin ": True,
    "same-site": False,
    "cross-site": False,
    "": False,
    "same-origin, cross-site": False,
}


@pytest.mark.parametrize(("site", "own"), SITES.items())
def test_the_browser_says_where_from(site: str, own: bool) -> None:
    assert refused(request(**own_token(sec_fetch_site=site))) is not own


ORIGINS = {
    "https://music.example": True,  # the public address
    f"http://{HOST}": True,  # the one it was reached under
    "https://MUSIC.example": True,
    "https://evil.example": False,
    "https://music.example.evil.example": False,
    "https://evil.example/music.example": False,
    "https://music.example@evil.example": False,
    "https://music.example:444": False,
    "null": False,
    "": False,
}


@pytest.mark.parametrize(("origin", "own"), ORIGINS.items())
def test_an_older_browser_says_its_origin(origin: str, own: bool) -> None:
    assert refused(request(**own_token(origin=origin))) is not own


def test_what_the_browser_says_of_the_site_comes_before_the_origin() -> None:
    evil = request(**own_token(sec_fetch_site="cross-site", origin="https://music.example"))
    assert refused(evil)


def test_two_origins_are_none() -> None:
    connection = request(**own_token(origin="https://music.example"))
    connection.scope["headers"].append((b"origin", b"https://music.example"))
    assert refused(HTTPConnection(connection.scope))


def test_the_token_is_needed_from_this_site_too() -> None:
    assert refused(request(sec_fetch_site="same-origin"))
    assert not refused(request(**own_token(sec_fetch_site="same-origin")))


def test_without_either_header_the_token_decides() -> None:
    assert not refused(request(**own_token()))
    assert refused(request())


@pytest.mark.parametrize("token", ["", "x", GUARD.token("ses_2"), GUARD.token("ses_1").upper(), "é"])
def test_another_token_is_refused(token: str) -> None:
    assert refused(request(sec_fetch_site="same-origin", x_csrf_token=token))


def test_the_token_is_bound_to_the_installation() -> None:
    assert CsrfGuard(("t" * 40,), None).token("ses_1") != GUARD.token("ses_1")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_changes_nothing_needs_neither(method: str) -> None:
    assert not refused(request(method, sec_fetch_site="cross-site"))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
def test_every_other_method_does(method: str) -> None:
    assert refused(request(method, sec_fetch_site="same-origin"))
    assert not refused(request(method, **own_token(sec_fetch_site="same-origin")))


def test_a_websocket_is_judged_by_its_origin() -> None:
    assert refused(request("WEBSOCKET", origin="https://evil.example"))
    assert not refused(request("WEBSOCKET", origin="https://music.example"))
