"""Requests that a browser sends on its own: they must come from this site, and with a cookie carry its token.

Two checks that do not depend on each other. Where from: ``Sec-Fetch-Site``, which every current browser sends and no
page can forge; without it ``Origin``, compared with this host. And the token: an HMAC bound to the session (OWASP's
signed double submit), which a foreign page cannot read.
"""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from api.auth.derivation import Digests, SecretKeys
from api.errors import ApiError, ErrorCode

CSRF_HEADER: Final = "X-CSRF-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"same-origin", "none"})  # none: typed by a person


class CsrfGuard:
    """
    Args:
        secrets: of the installation; pages that were loaded under an earlier one go on.
        public_url: where browsers find this server, if that differs from the Host header it receives.
    """

    def __init__(self, secrets: SecretKeys, public_url: str | None) -> None:
        self._digests = Digests(secrets, "csrf")
        self._public_host = urlsplit(public_url).netloc.lower() if public_url else None

    def token(self, session_id: str) -> str:
        """What the page of this session sends along; the same for as long as the session lives."""
        return self._digests(session_id)

    def check(self, connection: HTTPConnection, session_id: str) -> None:
        """For a request with the session's cookie.

        Raises:
            ApiError: csrf_failed, when it changes something and either check fails.
        """
        self.check_site(connection)
        if not changes_something(connection) or _is_websocket(connection):
            return  # a WebSocket's handshake cannot carry the header; its Origin was looked at
        sent = connection.headers.get(CSRF_HEADER, "").encode()
        if not any(hmac.compare_digest(sent, token.encode()) for token in self._digests.every(session_id)):
            raise ApiError(
                ErrorCode.CSRF_FAILED,
                f"with a session cookie this method needs the session's token in {CSRF_HEADER}: it is in the answer "
                "of the login and in that header of GET /api/v1/user/profile",
            )

    def check_site(self, connection: HTTPConnection) -> None:
        """For every request that counts without a secret in a header.

        Raises:
            ApiError: csrf_failed, when another site's page sent it and it changes something.
        """
        if changes_something(connection) and not self._from_own_site(connection):
            raise ApiError(ErrorCode.CSRF_FAILED, "another site's page sent this request: send it from this one")

    def _from_own_site(self, connection: HTTPConnection) -> bool:
        sites = connection.headers.getlist("sec-fetch-site")
        origins = connection.headers.getlist("origin")
        if sites:
            return len(sites) == 1 and sites[0].strip().lower() in _OWN_SITE
        if origins:
            own = {connection.headers.get("host", "").lower(), self._public_host}
            return len(origins) == 1 and bool(host := urlsplit(origins[0]).netloc.lower()) and host in own
        return True  # no browser of the last years: the token decides


def changes_something(connection: HTTPConnection) -> bool:
    """A WebSocket counts too: whatever may be sent over it later."""
    return _is_websocket(connection) or connection.scope["method"] not in _SAFE_METHODS


def _is_websocket(connection: HTTPConnection) -> bool:
    return bool(connection.scope["type"] == "websocket")
