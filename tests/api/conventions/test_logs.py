"""Logs: every line has the ids of what it belongs to, and nothing that a client sent."""

from __future__ import annotations

import ast
import asyncio
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from fastapi import FastAPI

from api.cache.embedded import EmbeddedValkey
from api.logs import bridge, correlate, correlation, engine_logger, make_logger, request_scope
from tests.api.conventions.corpus import PROMPT, SECRETS, TELLTALES, lines
from tests.api.fakes import FakeGenerator
from tests.api.platform import start

REPOSITORY = Path(__file__).resolve().parents[3]
WAIT = {"Prefer": "wait=20"}


# ------------------------------------------------------------------------------------ correlation
async def test_ids_reach_every_line_and_task_inside_and_no_other(stream: io.StringIO) -> None:
    log = make_logger("info", stream)

    async def work(generation_id: str) -> None:
        with correlation(generation_id=generation_id, account_id=None):
            await asyncio.sleep(0)
            log.info("inside", of=generation_id)

    with correlation(request_id="req_1"):
        correlate(account_id="acc_1")
        await asyncio.gather(*(asyncio.create_task(work(f"gen_{number}")) for number in range(3)))
    found = lines(stream)
    assert all(line["generation_id"] == line["of"] for line in found)
    assert {line["request_id"] for line in found} == {"req_1"}


async def test_requests_in_one_task_do_not_share_ids(stream: io.StringIO) -> None:
    log = make_logger("info", stream)
    with request_scope("req_1"):
        correlate(account_id="acc_1")
    with request_scope("req_2"):
        log.info("second")
    log.info("outside")
    second, outside = lines(stream)
    assert second["request_id"] == "req_2"
    assert "account_id" not in second
    assert "request_id" not in outside


async def test_whatever_a_route_logs_has_the_request_id(
    app: FastAPI, client: httpx2.AsyncClient, stream: io.StringIO
) -> None:
    log = make_logger("info", stream)

    @app.get("/speak")
    async def speak() -> None:
        log.info("spoken")

    answer = await client.get("/speak")
    [line] = lines(stream)
    assert line["request_id"] == answer.headers["x-request-id"]


# ------------------------------------------------------------------------------- standard logging
@pytest.fixture
def library() -> Iterator[logging.Logger]:
    logger = logging.getLogger("models.of_this_test")
    handlers = {name: list(logging.getLogger(name).handlers) for name in ("models", "deployments", "tutti")}
    yield logger
    for name, before in handlers.items():
        logging.getLogger(name).handlers[:] = before


def test_lines_of_the_engine_become_json_without_prompts(library: logging.Logger, stream: io.StringIO) -> None:
    prompts = [PROMPT]
    engine_logger(lambda: prompts, stream)
    bridge(engine_logger(lambda: prompts, stream), "models")  # a second one takes the first one's place
    try:
        raise ValueError(PROMPT)
    except ValueError:
        library.exception("text: request %s failed on %r", "gen_1", PROMPT)
    [line] = lines(stream)
    assert line["event"].startswith("text: request gen_1 failed on ")
    assert (line["level"], line["service"], line["logger"]) == ("error", "tutti-engine", library.name)
    assert "ValueError" in line["exception"]
    assert "Mathilda" not in stream.getvalue()


# ------------------------------------------------------------------------- every log call there is
_LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_NEVER = ("prompt", "password", "secret", "token", "email", "authorization", "cookie", "body", "headers", "lyrics")


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for package in ("api", "deployments", "models"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS:
                    owner = ast.unparse(node.func.value).lower()
                    if owner.endswith(("log", "logger")):
                        yield f"{path.relative_to(REPOSITORY)}:{node.lineno}", node


def test_no_log_call_names_a_secret_or_builds_its_event() -> None:
    calls = list(log_calls())
    assert len(calls) > 10
    for where, call in calls:
        names = [keyword.arg for keyword in call.keywords if keyword.arg]
        assert not [name for name in names if any(part in name for part in _NEVER)], where
        is_bridge = "record.getMessage" in ast.unparse(call)
        assert is_bridge or isinstance(call.args[0], ast.Constant | ast.Name), f"{where}: events are constants"


def test_a_line_of_the_engine_that_names_a_track_has_the_ids_of_its_request(
    library: logging.Logger, stream: io.StringIO
) -> None:
    """The engine works on many requests in one thread: what a line is made with says whose it is."""
    ids = {"trk_1.2": {"track": "trk_1.2", "request_id": "req_1"}}
    engine_logger(list, stream, about=lambda word: ids.get(word, {}))
    for words in (("trk_1.2", 3), ("trk_2.2", 3)):
        library.warning("request %s failed at frame %d", *words)
    library.warning("named %(track)s", {"track": "trk_1.2"})
    first, second, third = lines(stream)
    assert (first["event"], first["request_id"]) == ("request trk_1.2 failed at frame 3", "req_1")
    assert "request_id" not in second
    assert third["request_id"] == "req_1"


async def test_one_request_is_followed_from_the_gateway_to_the_engine(
    stream: io.StringIO, sqlite_database_url: str, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """The same three ids in the gateway's lines, the worker's, and what the replica is given."""
    where: dict[str, Any] = {"database_url": sqlite_database_url, "redis_url": valkey.url, "folder": tmp_path / "p"}
    generator = FakeGenerator()
    async with start(generator, **where, log=make_logger("info", stream)) as platform:
        owner = await platform.client("owner")
        answer = await owner.post("/api/v1/generate", json={"prompt": "piano", "duration": 0.1}, headers=WAIT)
    generation = answer.json()
    ids = {
        "request_id": answer.headers["x-request-id"],
        "generation_id": generation["id"],
        "account_id": platform.accounts["owner"],
    }
    assert dict(generator.requests[0].trace) == ids
    ended = [line for line in lines(stream) if line["event"] == "generation_state" and line["state"] == "succeeded"]
    assert [{name: line.get(name) for name in ids} for line in ended] == [ids]
    [access] = [line for line in lines(stream) if line["event"] == "request"]
    assert (access["request_id"], access["account_id"]) == (ids["request_id"], ids["account_id"])


async def test_nothing_a_client_sends_is_logged(
    stream: io.StringIO, sqlite_database_url: str, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """Every secret of the corpus in every place of a request, through application and worker with their real logger."""
    log = make_logger("debug", stream)
    where: dict[str, Any] = {"database_url": sqlite_database_url, "redis_url": valkey.url, "folder": tmp_path / "p"}
    generator = FakeGenerator(errors={0: RuntimeError(PROMPT)})
    async with start(generator, **where, log=log) as platform:
        for secret in SECRETS.values():
            await say(await platform.connect(), secret)
        owner = await platform.client("owner")
        await owner.post("/api/v1/generate", json={"prompt": PROMPT, "duration": 0.1}, headers={"Prefer": "wait=2"})
    written = stream.getvalue()
    assert len(written.splitlines()) > 4 * len(SECRETS)
    assert '"account_id": "acc_' in written
    assert "RuntimeError" in written
    assert not [telltale for telltale in TELLTALES if telltale in written]


async def say(http: httpx2.AsyncClient, secret: str) -> None:
    header = secret.replace("\n", " ").encode("ascii", "ignore").decode()
    headers = {"authorization": header, "x-api-key": header, "cookie": f"s={header}", "user-agent": header}
    body = {"prompt": secret.replace("\n", " "), "duration": 0.1, "model": secret, secret: secret}
    for given in ({}, headers):
        await http.post("/api/v1/generate", json=body, headers=given, params={"q": secret, "api_key": secret})
        await http.post("/api/v1/auth/login", json={"email": secret, "password": secret}, headers=given)
        await http.get("/nope/" + quote(secret, safe=""), headers=given)
