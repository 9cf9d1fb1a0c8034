"""The platform, for what holds of every route: in production, and in development for who asks from this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from api.cache.embedded import EmbeddedValkey
from tests.api.fakes import FakeGenerator
from tests.api.platform import Platform, start


@pytest.fixture
async def platform(sqlite_database_url: str, valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Platform]:
    """In production mode; its models make at most two seconds."""
    async with start(
        database_url=sqlite_database_url, redis_url=valkey.url, folder=tmp_path / "platform", max_duration_s=2.0
    ) as running:
        yield running


@pytest.fixture
async def development(
    sqlite_database_url: str, valkey: EmbeddedValkey, tmp_path: Path, generator: FakeGenerator
) -> AsyncIterator[Platform]:
    """In development mode."""
    async with start(
        generator,
        database_url=sqlite_database_url,
        redis_url=valkey.url,
        folder=tmp_path / "platform",
        environment="development",
    ) as running:
        yield running


@pytest.fixture
def app(development: Platform) -> FastAPI:
    return development.app


@pytest.fixture
async def client(development: Platform) -> httpx2.AsyncClient:
    """Without credentials, on the server's own machine."""
    return await development.connect(host="127.0.0.1", base_url="http://localhost")
