"""A platform that costs little: real gateway, worker, Valkey and database as processes; only the music is paced."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from benchmarks.api.platform import Load, Running, platform


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Three tiers with an account each; eight tracks at once, ten times as fast as they play."""
    load = Load(speed=10.0, slots=8, tenants=1, tiers=("enterprise", "pro", "free"))
    with asyncio.Runner() as runner:
        context = platform(load)
        yield runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))
