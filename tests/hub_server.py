"""A hub on this machine: enough of the HTTP API for whole snapshots, and a line that can be cut."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


@dataclass
class HubServer:
    """Serves folders as models.

    Attributes:
        models: the hub's id → folder.
        cut: name of a file → after so many bytes of each of the next answers the line is cut.
        short: name of a file → so many bytes of it are sent, as if they were the whole.
        knows_ranges: or sends the whole file, whatever was asked for.
        refuse: names of files that are answered with a 500.
        requests: (name of the file, what Range said) of every download.
    """

    models: Mapping[str, Path]
    cut: dict[str, list[int]] = field(default_factory=dict)
    short: dict[str, int] = field(default_factory=dict)
    knows_ranges: bool = True
    refuse: set[str] = field(default_factory=set)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        hub = self

        class Handler(_Handler):
            server_state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_state: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class's own name
        """Nobody reads it."""

    def _answer(self, *, send_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        for hub_id, folder in self.server_state.models.items():
            if path.startswith(f"/api/models/{hub_id}/"):
                self._tell(path.removeprefix(f"/api/models/{hub_id}/").split("/"), hub_id, folder)
                return
            if path.startswith(f"/{hub_id}/resolve/{COMMIT}/"):
                self._send(folder / path.removeprefix(f"/{hub_id}/resolve/{COMMIT}/"), send_body=send_body)
                return
        self._reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _tell(self, path: list[str], hub_id: str, folder: Path) -> None:
        files = sorted(file for file in folder.iterdir() if file.is_file())
        if path[1] not in ("main", COMMIT):
            self._reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif path[0] == "revision":
            siblings = [{"rfilename": file.name} for file in files]
            self._reply(200, json.dumps({"id": hub_id, "sha": COMMIT, "siblings": siblings}).encode())
        else:
            listed = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _etag(f)} for f in files]
            self._reply(200, json.dumps(listed).encode())

    def _send(self, file: Path, *, send_body: bool) -> None:
        state = self.server_state
        content, wanted = file.read_bytes(), self.headers.get("Range")
        headers = {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if not send_body:
            self._reply(200, b"", {**headers, "Content-Length": str(len(content))})
            return
        state.requests.append((file.name, wanted))
        if file.name in state.refuse:
            self._reply(500, b"out of order")
            return
        content = content[: state.short.get(file.name)]
        if not state.knows_ranges:
            wanted = None
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cuts = state.cut.get(file.name, [])
        rest, cut = content[start:], cuts.pop(0) if cuts else None
        self._reply(206 if wanted else 200, rest[:cut], {**headers, "Content-Length": str(len(rest))})
        self.close_connection = self.close_connection or cut is not None

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _etag(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
