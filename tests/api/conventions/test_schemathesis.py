"""Whatever is sent, no answer is a 5xx, and every answer is one that the OpenAPI document describes.

Schemathesis makes requests from the document, valid and invalid ones, and sends them over a socket to the platform in
another thread of this process.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.auth.principal import Role
from api.cache.embedded import EmbeddedValkey
from api.openapi import Json, operations
from api.openapi_changes import generate
from tests.api.platform import Platform, start

EXAMPLES = 12  # requests per operation and mode
TIMEOUT_S = 60.0
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DOCUMENT: Json = generate()
for _, _, described in operations(DOCUMENT):
    described["responses"].pop("default")  # with it any status would pass for described
OPERATIONS = [(method.upper(), path) for path, method, _ in operations(DOCUMENT)]


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

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT_S)
        self._loop.close()

    async def _new_key(self) -> str:
        return await self._platform.key(await self._platform.account(Role.ADMIN))

    async def _serve(self) -> None:
        try:
            async with start(**self._where, max_duration_s=1.0) as platform:  # type: ignore[arg-type]
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
    operation: APIOperation = schema[path][method]
    headers = {"Authorization": f"Bearer {served.new_key()}"}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def sent(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=served.url, headers=headers, checks=CHECKS, timeout=TIMEOUT_S)

    sent()
