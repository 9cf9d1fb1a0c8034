"""Request rates while their Valkey is dead, hangs, or comes and goes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.limits import rates as module
from api.limits import shared_counters
from api.limits.rates import Rates
from tests.api.limits.counting import refusals, tiers
from tests.api.limits.rows import principal


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    """One that a test may kill."""
    with EmbeddedValkey() as server:
        yield server


@pytest.fixture
async def lonely(own_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rates]:
    """Counters on it, which try again at once."""
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    monkeypatch.setattr(module, "STEADY_S", 0.0)
    cache = Cache.connect(own_valkey.url)
    rates = Rates(cache, tiers())
    yield rates
    await rates.close()
    await cache.close()


async def until(rates: Rates, degraded: bool) -> None:
    """Each hit tries; the loop ends when one has found out."""
    async with asyncio.timeout(30):
        while rates.degraded is not degraded:
            await rates.hit("upload", os.urandom(8).hex())
            await asyncio.sleep(0)


async def test_a_dead_cache_degrades_and_comes_back(
    lonely: Rates, own_valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="api.limits.rates")
    assert len(await refusals(lonely, 5)) == 2
    own_valkey.stop()
    # Each process counts for itself, from the beginning, but it counts.
    assert len(await refusals(lonely, 10)) == 7
    assert lonely.degraded
    assert (await lonely.check_request(principal())).remaining == 4
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the cache is gone" in caplog.text


async def test_a_killed_cache_is_found_again(lonely: Rates, own_valkey: EmbeddedValkey) -> None:
    assert len(await refusals(lonely, 5)) == 2
    assert own_valkey.pid is not None
    os.kill(own_valkey.pid, signal.SIGKILL)
    # Whatever is sent while it is away and comes back is answered, and no more is let through than by three counters:
    # the one that died, the one that came back empty, and this process's own.
    passed = 0
    for _ in range(20):
        passed += 5 - len(await refusals(lonely, 5, key="192.0.2.7"))
    assert 3 <= passed <= 9
    await until(lonely, degraded=False)  # its supervisor starts it again
    assert len(await refusals(lonely, 5, key="192.0.2.8")) == 2


async def test_a_cache_that_hangs_costs_one_timeout(
    lonely: Rates, own_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await lonely.hit("upload", "warm")
    assert own_valkey.pid is not None
    os.kill(own_valkey.pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(module, "RETRY_S", 3600.0)
        assert len(await refusals(lonely, 20)) == 17  # all at once: they wait together
        assert lonely.degraded
        monkeypatch.setattr(shared_counters, "PATIENCE_S", 0.0)  # whoever asked the cache now would fail
        assert len(await refusals(lonely, 20, key="192.0.2.9")) == 17
        assert len(caplog.records) == 1
    finally:
        os.kill(own_valkey.pid, signal.SIGCONT)


async def test_a_cache_that_comes_and_goes_is_reported_once(
    lonely: Rates, own_valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEADY_S", 3600.0)
    monkeypatch.setattr(shared_counters, "PATIENCE_S", 0.05)
    assert own_valkey.pid is not None
    for _ in range(3):
        os.kill(own_valkey.pid, signal.SIGSTOP)
        await until(lonely, degraded=True)
        os.kill(own_valkey.pid, signal.SIGCONT)
        await until(lonely, degraded=False)
    assert [each.message.split(",")[0] for each in caplog.records] == ["the cache is gone"]
    monkeypatch.setattr(module, "STEADY_S", 0.0)
    monkeypatch.setattr(shared_counters, "PATIENCE_S", 30.0)
    await lonely.hit("upload", "one")
    assert [each.message.split(":")[0] for each in caplog.records[1:]] == ["the cache is back"]


async def test_a_cache_that_hung_is_found_again(
    lonely: Rates, own_valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    assert own_valkey.pid is not None
    os.kill(own_valkey.pid, signal.SIGSTOP)
    try:
        await lonely.hit("upload", "one")
        assert lonely.degraded
    finally:
        os.kill(own_valkey.pid, signal.SIGCONT)
    await until(lonely, degraded=False)
    assert [each.message.split(",")[0].split(":")[0] for each in caplog.records] == [
        "the cache is gone",
        "the cache is back",
    ]
    assert len(await refusals(lonely, 5)) == 2
