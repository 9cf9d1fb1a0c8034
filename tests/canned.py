"""A canned server on a real socket: it says byte for byte what a server of the API could say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from api.cli import main
from api.formats.wav import wav_header

RATE = 32_000
SAMPLES = np.arange(-1600, 1600, dtype="<i2") * 10
WAV = wav_header(RATE, 1, len(SAMPLES)) + SAMPLES.tobytes()

Answer = Callable[[BaseHTTPRequestHandler], None]
KEY = "sk_live_tt_of_these_tests"
ID = "gen_000000000000000000000001"


@dataclass
class Canned:
    """What a server got.

    Attributes:
        requests: "GET /path" and so on, in order.
        headers: those of each request.
        bodies: of the requests for music.
    """

    url: str
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)


def accepting(handler: BaseHTTPRequestHandler) -> None:
    sending(json.dumps({"id": ID, "parameters": {"model": "tiny"}}).encode(), status=202)(handler)


def hanging_up(_: BaseHTTPRequestHandler) -> None:
    """An answer that gets lost."""


@contextmanager
def answering(*answers: Answer, accept: Sequence[Answer] = (accepting,)) -> Iterator[Canned]:
    """A server that answers requests for music with ``accept`` and for its audio with ``answers``, the last one again
    and again."""
    asked, listened = list(accept), list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self._note()
            if self.path == "/api/v1/generate":
                canned.bodies.append(json.loads(body))
                (asked.pop(0) if len(asked) > 1 else asked[0])(self)
            else:
                sending(b"{}", status=202)(self)

        def do_GET(self) -> None:
            self._note()
            (listened.pop(0) if len(listened) > 1 else listened[0])(self)

        def _note(self) -> None:
            self.close_connection = True
            canned.requests.append(f"{self.command} {self.path}")
            canned.headers.append({name.lower(): value for name, value in self.headers.items()})

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        canned = Canned(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield canned
        finally:
            server.shutdown()
            thread.join()


def sending(
    body: bytes,
    *,
    promised: int | None = None,
    status: int = 200,
    pieces: int = 1,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Answer with these bytes in so many pieces, after promising ``promised`` (None: as many as there are)."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if promised is None else promised))
        handler.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        size = -(-len(body) // pieces) or 1
        for start in range(0, len(body), size):
            handler.wfile.write(body[start : start + size])
            handler.wfile.flush()

    return answer


def refusing(status: int, code: str = "some_code", retry_after: str = "") -> Answer:
    """Answer with the API's envelope."""
    body = json.dumps({"error": {"code": code, "message": "Because of this."}}).encode()
    return sending(body, status=status, headers={"Retry-After": retry_after} if retry_after else None)


def generate(url: str, output: Path, *more: str) -> int:
    return main(["generate", "calm piano", "-o", str(output), "--url", url, "--duration", "0.1", "--json", *more])
