"""One HTTP request, or the opening of a WebSocket, spoken in bare ASGI messages.

Disconnects and failing sends happen exactly where a test wants.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message

TIMEOUT_S = 20.0
STREAM = "/api/v1/generate/stream"


class Exchange:
    """A request on its way through an application.

    Args:
        path: with its query, if any.
        send_fails_on: a message type; sending it raises what a server raises when the client is gone.
    """

    def __init__(
        self,
        app: ASGIApp,
        body: Any = None,
        *,
        pieces: list[bytes] | None = None,
        path: str = STREAM,
        method: str = "POST",
        headers: dict[str, str] | None = None,
        root_path: str = "",
        send_fails_on: str | None = None,
    ) -> None:
        self._app = app
        self._pieces = pieces if pieces is not None else [json.dumps(body).encode()]
        names = {"host": "localhost", "content-type": "application/json", **(headers or {})}
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.partition("?")[0].encode(),
            "root_path": root_path,
            "query_string": path.partition("?")[2].encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in names.items()],
            "client": ("127.0.0.1", 1234),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        self._fails_on = send_fails_on
        self._left = asyncio.Event()
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.messages: list[Message] = []

    def start(self) -> Exchange:
        self._task = asyncio.create_task(self._run())
        return self

    def disconnect(self) -> None:
        self._left.set()

    async def finish(self) -> None:
        """Until the application returns; what it raised is raised here."""
        assert self._task is not None
        async with asyncio.timeout(TIMEOUT_S):
            await self._task

    async def cancel(self) -> None:
        """What a server does to its requests when it must stop."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task], timeout=TIMEOUT_S)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until something was sent that makes the condition true."""
        async with asyncio.timeout(TIMEOUT_S), self._changed:
            await self._changed.wait_for(condition)

    @property
    def status(self) -> int | None:
        return self.messages[0]["status"] if self.messages else None

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    def ended_well(self) -> bool:
        """The last message said that it is the last one."""
        last = self.messages[-1] if self.messages else {"type": ""}
        return last["type"] == "http.response.body" and not last.get("more_body", False)

    async def _run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == self._fails_on:
            raise OSError("the client is gone")
        async with self._changed:
            self.messages.append(message)
            self._changed.notify_all()


async def open_websocket(app: ASGIApp, path: str) -> list[Message]:
    """What is sent to a client that opens a WebSocket and stays; it brings no credential, from far away."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "wss",
        "query_string": b"",
        "headers": [(b"host", b"tutti")],
        "client": ("198.51.100.7", 1234),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    await app(scope, receive, send)
    return sent
