"""The rate's headers on responses of every kind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Message

from api.limits.headers import RateHeaders, RateState

RATE = RateState("requests", 120, 118, 36.2, 60)


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()

    @app.get("/mine")
    async def mine(request: Request) -> PlainTextResponse:
        request.state.rate = RATE
        return PlainTextResponse("ok")

    @app.get("/refused")
    async def refused(request: Request) -> PlainTextResponse:
        request.state.rate = RATE
        return PlainTextResponse("slow down", 429, {"X-RateLimit-Remaining": "0"})

    @app.get("/stream")
    async def stream(request: Request) -> StreamingResponse:
        request.state.rate = RATE
        return StreamingResponse(iter(["a", "b"]))

    @app.get("/public")
    async def public() -> PlainTextResponse:
        return PlainTextResponse("ok")

    transport = httpx2.ASGITransport(RateHeaders(app))
    async with httpx2.AsyncClient(transport=transport, base_url="http://tutti") as connected:
        yield connected


@pytest.mark.parametrize("path", ["/mine", "/stream"])
async def test_an_authenticated_response_says_what_is_left(client: httpx2.AsyncClient, path: str) -> None:
    before = time.time()
    headers = (await client.get(path)).headers
    assert headers["X-RateLimit-Limit"] == "120"
    assert headers["X-RateLimit-Remaining"] == "118"
    assert before + 36 <= int(headers["X-RateLimit-Reset"]) <= time.time() + 38
    assert headers["RateLimit"] == '"requests";r=118;t=37'
    assert headers["RateLimit-Policy"] == '"requests";q=120;w=60'


async def test_what_the_response_says_itself_stays(client: httpx2.AsyncClient) -> None:
    headers = (await client.get("/refused")).headers
    assert headers.get_list("X-RateLimit-Remaining") == ["0"]
    assert headers["X-RateLimit-Limit"] == "120"


async def test_a_public_response_says_nothing(client: httpx2.AsyncClient) -> None:
    headers = (await client.get("/public")).headers
    assert not [name for name in headers if "ratelimit" in name.lower()]


async def test_other_protocols_pass_through() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def accept(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "subprotocols": []}
    await RateHeaders(app)(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
