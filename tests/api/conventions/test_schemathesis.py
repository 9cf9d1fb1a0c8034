"""Whatever is sent, no answer is a 5xx, and every answer is one that the OpenAPI document describes.

Schemathesis makes requests from the document, valid and invalid ones, and sends them over a socket to the platform in
another thread of this process.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from api.auth.principal import Role
from api.cache.embedded import EmbeddedValkey
from api.openapi import Json, operations
from api.openapi_changes import generate
from tests.api.conventions.resources import WITH_WEBHOOKS, owned
from tests.api.platform import Platform, start

# The server's thread draws from `random` whenever it likes; where that falls into
# the drawing of a request, Hypothesis takes it for the strategy's.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Do not use the .random. module inside strategies:hypothesis.errors.HypothesisDeprecationWarning"
)

EXAMPLES = 20  # requests per operation and mode
TIMEOUT_S = 60.0
CHECKS = [
    negative_data_rejection,
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
DOCUMENT: Json = generate()
for _, _, described in operations(DOCUMENT):
    described["responses"].pop("default")  # with it any status would pass for described
    # Schemathesis holds the schema of a whole event stream, a text, against each of its events.
    described["responses"].get("200", {}).get("content", {}).get("text/event-stream", {}).pop("schema", None)
OPERATIONS = [(method.upper(), path) for path, method, _ in operations(DOCUMENT)]
WORDS = {part for _, path in OPERATIONS for part in path.split("/") if part and "{" not in part}
WITH_IDS = [(method, path) for method, path in OPERATIONS if re.search("{(?!model_id)", path)]


@schemathesis.serializer("audio/*")
def as_it_is(context: schemathesis.SerializationContext, value: bytes) -> bytes:
    return value


class Served:
    """A platform behind a real server, in a thread of its own.

    Attributes:
        url: where it listens.
    """

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        self._where = {"database_url": database_url, "redis_url": redis_url, "folder": folder}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready: Future[tuple[str, Platform]] = Future()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        self.url, self._platform = self._ready.result(TIMEOUT_S)

    def new_key(self) -> str:
        """An API key of a new account that may do everything, so that operations do not disturb each other."""
        return asyncio.run_coroutine_threadsafe(self._new_key(), self._loop).result(TIMEOUT_S)

    def owned_by(self, key: str) -> dict[str, str]:
        """Parameter names → ids of things that the key's account has."""
        return asyncio.run_coroutine_threadsafe(self._owned_by(key), self._loop).result(TIMEOUT_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT_S)
        self._loop.close()

    async def _new_key(self) -> str:
        return await self._platform.key(await self._platform.account(Role.ADMIN))

    async def _owned_by(self, key: str) -> dict[str, str]:
        return await owned(await self._platform.connect(key))

    async def _serve(self) -> None:
        try:
            async with start(**self._where, **WITH_WEBHOOKS, max_duration_s=1.0) as platform:  # type: ignore[arg-type]
                config = uvicorn.Config(platform.app, log_config=None, lifespan="off", timeout_graceful_shutdown=5)
                server = uvicorn.Server(config)
                with socket.create_server(("127.0.0.1", 0)) as listening:
                    serving = asyncio.create_task(server.serve(sockets=[listening]))
                    self._ready.set_result((f"http://127.0.0.1:{listening.getsockname()[1]}", platform))
                    await self._stop.wait()
                    server.should_exit = True
                    await serving
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise


@pytest.fixture(scope="module")
def served(sqlite_template: Path, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    database = folder / "tutti.db"
    database.write_bytes(sqlite_template.read_bytes())
    with running(f"sqlite+aiosqlite:///{database}", valkey.url, folder) as one:
        yield one


@contextmanager
def running(database_url: str, redis_url: str, folder: Path) -> Iterator[Served]:
    one = Served(database_url, redis_url, folder)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def schema() -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_dict(DOCUMENT)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[f"{method} {path}" for method, path in OPERATIONS])
def test_every_answer_is_described(
    served: Served, schema: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    try:
        send(served, served.new_key(), schema[path][method].as_strategy(generation_mode=mode))
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "nothing about this operation can be wrong"


@pytest.mark.parametrize(("method", "path"), WITH_IDS, ids=[f"{method} {path}" for method, path in WITH_IDS])
def test_every_answer_about_what_there_is_is_described(
    served: Served, schema: schemathesis.BaseSchema, method: str, path: str
) -> None:
    """The same with ids that exist, so that more than 404 is seen."""
    key = served.new_key()
    ids = {name: value for name, value in served.owned_by(key).items() if f"{{{name}}}" in path}
    send(served, key, schema[path][method].as_strategy(path_parameters=ids))


def names_another_route(case: schemathesis.Case[Any]) -> bool:
    """An id that is drawn may be the word of a route beside it, as in /audio/uploads: that is another operation."""
    return any(value in WORDS for value in (case.path_parameters or {}).values())


def send(served: Served, key: str, cases: SearchStrategy[schemathesis.Case[Any]]) -> None:
    headers = {"Authorization": f"Bearer {key}"}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def sent(case: schemathesis.Case[Any]) -> None:
        assume(not names_another_route(case))
        case.call_and_validate(base_url=served.url, headers=headers, checks=CHECKS, timeout=TIMEOUT_S)

    sent()
