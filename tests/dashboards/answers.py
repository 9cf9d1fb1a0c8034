"""A server that says what a test tells it to, for what a healthy Prometheus does not answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TARGETS = {"activeTargets": [{"scrapeInterval": "5s"}, {"scrapeInterval": "15s"}]}
EMPTY = {"resultType": "vector", "result": []}


@contextmanager
def answering(
    answers: Mapping[str, tuple[int, str]], asked: list[tuple[str, dict[str, str]]] | None = None
) -> Iterator[str]:
    """Answers by the last part of the path, of which "" is for all others; yields the URL.

    Args:
        asked: is filled with the paths and their parameters.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if asked is not None:
                asked.append((parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}))
            status, body = answers.get(parts.path.rpartition("/")[2]) or answers[""]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's own name
            """Requests are no news."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def success(data: object) -> tuple[int, str]:
    """As Prometheus wraps it."""
    return 200, json.dumps({"status": "success", "data": data})


def refusal(message: str, status: int = 422) -> tuple[int, str]:
    """As Prometheus refuses a query."""
    return status, json.dumps({"status": "error", "errorType": "execution", "error": message})
