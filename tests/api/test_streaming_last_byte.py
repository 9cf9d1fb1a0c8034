"""A client that closes as soon as it has the last byte has heard everything: nothing was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message

from tests.api.fakes import FakeGenerator

STREAM = "/api/v1/generate/stream"


async def leave_with_the_last_byte(app: Any, key: str, audio_format: str) -> int:
    """Ask for a stream, and leave when all announced bytes (or, without a length, the first ones) have come; how many
    came before that. The server hears of it before it can say that the body is over, as on a fast connection."""
    body = f'{{"prompt": "piano", "duration": 0.5, "format": "{audio_format}"}}'.encode()
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": "POST", "path": STREAM, "raw_path": STREAM.encode(), "query_string": b"",
        "headers": headers, "client": ("198.51.100.7", 1), "server": ("tutti.example", 443), "scheme": "https",
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    asked, left, received, due = False, asyncio.Event(), 0, 0

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await left.wait()
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal received, due
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            due = int(dict(message["headers"]).get(b"content-length", b"1"))
            return
        if left.is_set():
            await asyncio.Event().wait()  # nobody takes this any more
        received += len(message["body"])
        if received >= due:
            left.set()

    await app(scope, receive, send)
    return received


@pytest.mark.parametrize(
    ("audio_format", "outcome"), [("pcm", "completed"), ("wav", "completed"), ("flac", "cancelled")]
)
async def test_who_has_every_byte_has_cancelled_nothing(
    make_platform: Callable[..., Awaitable[Any]], generator: FakeGenerator, audio_format: str, outcome: str
) -> None:
    platform = await make_platform(generator)
    key = await platform.key(await platform.account())
    await leave_with_the_last_byte(platform.app, key, audio_format)
    local = await platform.connect(host="127.0.0.1", base_url="http://localhost")
    text = (await local.get("/metrics")).text
    counted = [
        line for line in text.splitlines() if line.startswith("tutti_requests_total") and not line.endswith(" 0.0")
    ]
    assert counted == [f'tutti_requests_total{{mode="stream",model="tiny",outcome="{outcome}",tier="enterprise"}} 1.0']
