"""One application around a fake generator, in memory or behind a real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import pytest
import structlog
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.settings import Settings
from tests.api.fakes import FakeGenerator, spec

Serve = Callable[[FastAPI], AbstractAsyncContextManager[str]]


@pytest.fixture
def generator() -> FakeGenerator:
    return FakeGenerator()


@pytest.fixture
def log() -> structlog.testing.LogCapture:
    return structlog.testing.LogCapture()


@pytest.fixture
def make_app(log: structlog.testing.LogCapture) -> Callable[..., FastAPI]:
    """create_app with a captured log; keyword arguments are settings."""

    def make(*generators: FakeGenerator, **settings: Any) -> FastAPI:
        names = ["tiny", "small"][: len(generators)]
        filtering = structlog.make_filtering_bound_logger(0)
        logger: Any = structlog.wrap_logger(None, processors=[log], wrapper_class=filtering)
        return create_app(
            dict(zip(names, generators, strict=True)),
            {name: spec(name, channels=fake.channels) for name, fake in zip(names, generators, strict=True)},
            Settings(**settings),
            log=logger.bind(),
        )

    return make


@pytest.fixture
def app(make_app: Callable[..., FastAPI], generator: FakeGenerator) -> FastAPI:
    return make_app(generator)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client whose server does not raise: what a real client would see."""
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://tutti") as connected:
        yield connected


@pytest.fixture
def serve() -> Serve:
    """A real server on a free port of the loopback interface."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[str]:
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                await serving

    return running
