"""What Serve's HTTP proxy says by itself has the API's shape, and every answer has one request id."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from ray.serve._private.http_util import _apply_middlewares, validate_http_proxy_callback_return
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.headers import CONTROL_HEADERS
from benchmarks.processes import descendants
from deployments.platform import Platform, load_config
from deployments.proxy import middlewares
from tests.api.asgi import Exchange
from tests.deployments.conftest import ConfigWriter

REQUEST_ID = re.compile(r"req_[0-9a-f]{24}")


def behind_the_proxy(app: ASGIApp, *, headers: dict[str, str] | None = None) -> Exchange:
    """One request through the middlewares as Serve stacks them: its own request id first, ours around it."""
    return Exchange(_apply_middlewares(app, validate_http_proxy_callback_return(middlewares())), headers=headers)


def sent_ids(exchange: Exchange) -> list[str]:
    return [value.decode() for name, value in exchange.messages[0]["headers"] if name == b"x-request-id"]


def checked_envelope(exchange: Exchange, status: int, code: str) -> None:
    assert exchange.status == status
    error = json.loads(exchange.body)["error"]
    assert error["code"] == exchange.headers["x-error-code"] == code
    [request_id] = sent_ids(exchange)
    assert REQUEST_ID.fullmatch(request_id)
    assert error["request_id"] == request_id
    assert exchange.headers["x-content-type-options"] == "nosniff"
    assert ("retry-after" in exchange.headers) == error["retryable"]
    assert exchange.ended_well()


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        (404, 503, "gateway_unavailable"),
        (503, 503, "gateway_unavailable"),
        (408, 504, "request_timeout"),
        (500, 500, "internal_error"),
    ],
)
async def test_an_error_of_the_proxy_itself_becomes_an_envelope(said: int, status: int, code: str) -> None:
    exchange = behind_the_proxy(PlainTextResponse("Path '/x' not found.", status_code=said)).start()
    await exchange.finish()
    checked_envelope(exchange, status, code)


async def test_how_long_to_wait_is_kept() -> None:
    exchange = behind_the_proxy(PlainTextResponse("full", 503, headers={"retry-after": "7"})).start()
    await exchange.finish()
    assert exchange.headers["retry-after"] == "7"


async def test_a_gateway_that_went_away_without_a_word() -> None:
    async def says_nothing(scope: Scope, receive: Receive, send: Send) -> None:
        return

    exchange = behind_the_proxy(says_nothing).start()
    await exchange.finish()
    checked_envelope(exchange, 503, "gateway_unavailable")


async def test_a_proxy_that_fails_before_and_after_the_first_byte() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    exchange = behind_the_proxy(fails).start()
    await exchange.finish()
    checked_envelope(exchange, 500, "internal_error")

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    exchange = behind_the_proxy(breaks).start()
    with pytest.raises(RuntimeError):
        await exchange.finish()
    assert not exchange.ended_well()


@pytest.mark.parametrize("status", [200, 404, 503])
async def test_what_the_gateway_says_passes_with_its_own_id_only(status: int) -> None:
    ours = f"req_{'5' * 24}"
    exchange = behind_the_proxy(PlainTextResponse("as it is", status, headers={"x-request-id": ours})).start()
    await exchange.finish()
    assert (exchange.status, exchange.body, sent_ids(exchange)) == (status, b"as it is", [ours])


async def test_what_the_proxy_says_well_passes_with_an_id() -> None:
    exchange = behind_the_proxy(PlainTextResponse("success")).start()
    await exchange.finish()
    assert (exchange.status, exchange.body) == (200, b"success")
    [request_id] = sent_ids(exchange)
    assert REQUEST_ID.fullmatch(request_id)


async def test_no_client_steers_the_proxy() -> None:
    seen: list[Sequence[tuple[bytes, bytes]]] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["headers"])
        await PlainTextResponse("ok")(scope, receive, send)

    exchange = behind_the_proxy(inner, headers={name.decode().upper(): "req_0" for name in CONTROL_HEADERS}).start()
    await exchange.finish()
    found = dict(seen[0])
    assert CONTROL_HEADERS & set(found) == {b"x-request-id"}  # which Serve itself minted
    assert found[b"x-request-id"] != b"req_0"


async def test_websockets_pass() -> None:
    messages: list[Message] = []

    async def accepts(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def keep(message: Message) -> None:
        messages.append(message)

    async def nothing() -> Message:
        return {"type": "websocket.connect"}

    app = _apply_middlewares(accepts, middlewares())
    await app({"type": "websocket", "headers": [(b"x-session-id", b"1")]}, nothing, keep)
    assert [message["type"] for message in messages] == ["websocket.accept"]


# ------------------------------------------------------------------------------------ in real Serve
def asked(http: httpx2.Client, path: str) -> httpx2.Response:
    """An answer, after what holds for every answer was looked at."""
    answer = http.get(path, headers={"x-request-id": "mine"})
    [request_id] = answer.headers.get_list("x-request-id")
    assert REQUEST_ID.fullmatch(request_id)
    if answer.status_code >= 400:
        assert answer.json()["error"]["request_id"] == request_id
    return answer


@pytest.fixture(scope="module")
def config(write_config: ConfigWriter) -> Path:
    return write_config()


@pytest.mark.ray
@pytest.mark.slow
def test_every_answer_of_a_running_platform(platform: Platform, http: httpx2.Client, config: Path) -> None:
    from deployments.platform import _client

    assert asked(http, "/api/v1/models").status_code == 200
    assert asked(http, "/nope").json()["error"]["code"] == "not_found"
    assert asked(http, "/-/healthz").status_code == 200

    gateways = [pid for pid, title in descendants().items() if "ServeReplica:tutti:Gateway" in title]
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(asked, http, "/version") for _ in range(200)]
        for pid in gateways:
            os.kill(pid, signal.SIGKILL)
        statuses = {future.result().status_code for future in waiting}
    assert gateways
    assert statuses <= {200, 503}

    _client().delete_apps(["tutti"], blocking=True)
    try:
        gone = asked(http, "/api/v1/models")
        assert (gone.status_code, gone.json()["error"]["code"]) == (503, "gateway_unavailable")
        assert int(gone.headers["retry-after"]) > 0
    finally:
        platform.deploy(load_config(config))
    assert asked(http, "/api/v1/models").status_code == 200
