"""What happens to every request: an id, a size limit, safe headers, one line in the log that holds no prompt."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI, WebSocket
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import ApiError, ErrorCode
from api.headers import CONTROL_HEADERS
from api.middleware import StripControlHeaders
from tests.api.asgi import STREAM, Exchange, open_websocket
from tests.api.conftest import MakePlatform
from tests.api.fakes import FakeGenerator

BODY = {"prompt": "a very private prompt", "duration": 0.3}


async def test_request_ids_are_always_minted_here(client: httpx2.AsyncClient) -> None:
    answers = [await client.get("/health", headers={"x-request-id": "mine"}) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2
    assert "mine" not in ids


async def test_control_headers_never_reach_the_application() -> None:
    seen: list[bytes] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(name for name, _ in scope["headers"])

    headers = {name.decode().title(): "?1" for name in CONTROL_HEADERS} | {"accept": "*/*"}
    await Exchange(StripControlHeaders(inner), headers=headers).start().finish()
    assert not CONTROL_HEADERS & set(seen)
    assert b"accept" in seen


async def test_a_body_over_the_cap_is_refused_unread(app: FastAPI, generator: FakeGenerator) -> None:
    exchange = Exchange(app, pieces=[b"{"], headers={"content-length": "65537"}).start()
    await exchange.finish()
    assert (exchange.status, exchange.headers["x-error-code"]) == (413, "payload_too_large")
    assert json.loads(exchange.body)["error"]["details"] == {"max_bytes": 65_536}
    assert exchange.headers["x-request-id"]


@pytest.mark.parametrize("headers", [{}, {"content-length": "10"}], ids=["chunked", "lying"])
async def test_a_body_that_grows_over_the_cap_is_refused(
    app: FastAPI, generator: FakeGenerator, headers: dict[str, str]
) -> None:
    exchange = Exchange(app, pieces=[b" " * 40_000, b" " * 40_000, b"{}"], headers=headers).start()
    await exchange.finish()
    assert (exchange.status, exchange.headers["x-error-code"]) == (413, "payload_too_large")
    assert exchange.ended_well()
    assert generator.started == 0


async def test_a_body_at_the_cap_is_read(make_platform: MakePlatform) -> None:
    app = (await make_platform(FakeGenerator(), max_body_bytes=1_024)).app
    for extra, status in ((0, 200), (1, 413)):
        body = json.dumps(BODY).encode()
        exchange = Exchange(app, pieces=[body, b" " * (1_024 - len(body) + extra)]).start()
        await exchange.finish()
        assert exchange.status == status


@pytest.mark.parametrize("path", ["/", "/health", "/nope", "/api/v1/models", "/web/app.js"])
async def test_safe_headers_everywhere(client: httpx2.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "unsafe" not in headers["content-security-policy"]


async def test_the_access_log_says_what_happened_and_no_more(
    client: httpx2.AsyncClient, log: structlog.testing.LogCapture
) -> None:
    answer = await client.post(STREAM + "?token=secret", json=BODY)
    await client.post(STREAM, json={"prompt": "a very private prompt\u0000"})
    entries = [entry for entry in log.entries if entry["event"] == "request"]
    first = {name: entries[0][name] for name in ("request_id", "method", "route", "status", "complete", "bytes_sent")}
    assert first == {
        "request_id": answer.headers["x-request-id"],
        "method": "POST",
        "route": "/api/v1/generate/stream",
        "status": 200,
        "complete": True,
        "bytes_sent": len(answer.content),
    }
    assert entries[1]["status"] == 422
    assert "private" not in str(log.entries)
    assert "secret" not in str(log.entries)


async def test_a_bug_is_logged_with_its_request_id(
    app: FastAPI, client: httpx2.AsyncClient, log: structlog.testing.LogCapture
) -> None:
    @app.get("/api/v1/bug")
    async def bug() -> None:
        raise KeyError("bug")

    answer = await client.get("/api/v1/bug")
    [entry] = [entry for entry in log.entries if entry["event"] == "internal_error"]
    assert (answer.status_code, answer.headers["x-error-code"]) == (500, "internal_error")
    assert entry["request_id"] == answer.headers["x-request-id"] == answer.json()["error"]["request_id"]
    assert isinstance(entry["exc_info"], KeyError)


async def test_metrics_have_no_labels_from_clients(client: httpx2.AsyncClient) -> None:
    await client.get("/nope-1")
    await client.request("BREW", "/nope-2")
    text = (await client.get("/metrics")).text
    assert 'tutti_http_requests_total{method="OTHER",route="unmatched",status="404"} 1.0' in text
    assert "nope" not in text
    assert "BREW" not in text


@pytest.mark.parametrize(
    ("path", "status", "code"), [("/nope", 404, "not_found"), ("/api/v2/ws", 406, "unsupported_version")]
)
async def test_a_websocket_that_is_refused_is_told_why(app: FastAPI, path: str, status: int, code: str) -> None:
    answer, headers = await handshake(app, path)
    assert answer["error"]["code"] == headers["x-error-code"] == code
    assert (headers["status"], answer["error"]["request_id"]) == (str(status), headers["x-request-id"])
    assert headers["x-content-type-options"] == "nosniff"


async def test_a_refusal_inside_a_websocket_route_is_an_envelope(
    app: FastAPI, log: structlog.testing.LogCapture
) -> None:
    @app.websocket("/api/v1/refuses")
    async def refuses(websocket: WebSocket) -> None:
        raise ApiError(ErrorCode.MODEL_NOT_FOUND)

    @app.websocket("/api/v1/breaks")
    async def breaks(websocket: WebSocket) -> None:
        raise KeyError

    answer, headers = await handshake(app, "/api/v1/refuses")
    assert (headers["status"], answer["error"]["code"]) == ("404", "model_not_found")
    answer, headers = await handshake(app, "/api/v1/breaks")
    assert (headers["status"], answer["error"]["code"]) == ("500", "internal_error")
    entries = [entry for entry in log.entries if entry["event"] == "request"]
    assert [(entry["method"], entry["route"], entry["status"]) for entry in entries] == [
        ("WEBSOCKET", "/api/v1/refuses", 404),
        ("WEBSOCKET", "/api/v1/breaks", 500),
    ]


async def test_an_accepted_websocket_gets_its_request_id(app: FastAPI, log: structlog.testing.LogCapture) -> None:
    @app.websocket("/api/v1/accepts")
    async def accepts(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    sent = await open_websocket(app, "/api/v1/accepts")
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    [entry] = [entry for entry in log.entries if entry["event"] == "request"]
    assert (entry["status"], entry["complete"]) == (101, True)
    assert headers == {"x-request-id": entry["request_id"]}


async def handshake(app: ASGIApp, path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The body and headers of a refused handshake; its status stands among the headers."""
    start, *bodies = await open_websocket(app, path)
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    body = b"".join(message.get("body", b"") for message in bodies)
    return json.loads(body), {**headers, "status": str(start["status"])}
