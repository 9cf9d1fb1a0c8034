"""A process's registry on a port of its own, for Prometheus: read in threads, whatever the event loop is busy with."""

from __future__ import annotations

import hmac
import socket
import threading
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client.exposition import ThreadingWSGIServer

from api.telemetry.registry import Registry

PATH: Final = "/metrics"
_NOWHERE: Final = ("192.0.2.1", 9)  # RFC 5737: an address that nobody has; nothing is sent there
_WAKE_TIMEOUT_S: Final = 5.0
EVERYWHERE: Final = str(IPv4Address(0))

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Exporter:
    """Serves ``GET /metrics`` from ``start`` until ``close``.

    Args:
        host: interface; 0.0.0.0: all of them.
        token: what a scraper sends as its bearer token; None: whoever reaches the port may read.

    Raises:
        OSError: the interface does not exist.
    """

    def __init__(self, registry: Registry, host: str, token: str | None) -> None:
        self._registry = registry
        self._token = token
        self._host = host
        self._closing = False
        self._server = make_server(host, 0, self._answer, ThreadingWSGIServer, _Silent)
        self._thread = threading.Thread(target=self._serve, name="tutti-metrics", daemon=True)

    @property
    def port(self) -> int:
        """Chosen by the system, so that any number of replicas may share a machine."""
        return int(self._server.server_port)

    @property
    def address(self) -> str:
        """Where the scraper finds it: host and port."""
        return f"{_reachable(self._host)}:{self.port}"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop, and give the port back."""
        self._closing = True
        host = "127.0.0.1" if self._host == EVERYWHERE else self._host
        with socket.create_connection((host, self.port), timeout=_WAKE_TIMEOUT_S):
            self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        while not self._closing:
            self._server.handle_request()

    def _answer(self, request: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        if request["REQUEST_METHOD"] != "GET" or request["PATH_INFO"] != PATH:
            return _refusal(start, "404 Not Found")
        if not allows(self._token, request.get("HTTP_AUTHORIZATION")):
            return _refusal(start, "401 Unauthorized")
        text, content_type = self._registry.render(request.get("HTTP_ACCEPT"))
        start("200 OK", [("Content-Type", content_type), ("Content-Length", str(len(text)))])
        return [text]


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's own name
        """Scrapes are no news."""


def allows(token: str | None, authorization: str | None) -> bool:
    """Whether a header lets in where this token is asked for."""
    if token is None:
        return True
    return hmac.compare_digest((authorization or "").encode(), f"Bearer {token}".encode())


def _refusal(start: StartResponse, status: str) -> Iterable[bytes]:
    start(status, [("Content-Length", "0")])
    return [b""]


def _reachable(host: str) -> str:
    """The address by which other machines reach this one, if it listens on all."""
    if host != EVERYWHERE:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_NOWHERE)  # of a datagram: the system only chooses the way
        except OSError:  # no network at all
            return "127.0.0.1"
        return str(probe.getsockname()[0])
