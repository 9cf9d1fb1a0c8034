"""Doorbells over a real Valkey, which is killed and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from api.cache import bus as bus_module
from api.cache.bus import Bus, Subscription
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from tests.api.streams.stage import PATIENCE_S, eventually


@asynccontextmanager
async def listening(bus: Bus, *channels: str) -> AsyncIterator[Subscription]:
    """A subscription that holds already."""
    async with bus.subscribe(*channels) as subscription:
        for _ in channels:
            assert await subscription.get(PATIENCE_S) is None
            if len(channels) > 1:
                break  # one wake for several that took hold at once
        yield subscription


async def test_a_message_reaches_every_subscriber_of_its_channel(cache: Cache, bus: Bus) -> None:
    other = Bus(cache)
    async with listening(bus, "a") as first, listening(bus, "a", "b") as second, listening(other, "a") as third:
        assert await other.publish("a", b"hello")
        assert await bus.publish("b", b"only there")
        for subscription in (first, second, third):
            assert await heard(subscription) == ("a", b"hello")
        assert await heard(second) == ("b", b"only there")
        assert await first.get(0.05) is None
    await other.close()


async def heard(subscription: Subscription) -> tuple[str, bytes]:
    """The next message, whatever wakes come before it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (message := await subscription.get(PATIENCE_S)) is not None:
                return message


async def test_prefixes_keep_installations_apart(cache: Cache, bus: Bus, valkey: EmbeddedValkey) -> None:
    stranger_cache = Cache.connect(valkey.url, prefix="stranger:")
    async with listening(bus, "a") as subscription:
        assert await Bus(stranger_cache).publish("a", b"not for you")
        assert await bus.publish("a", b"for you")
        assert await heard(subscription) == ("a", b"for you")
    await stranger_cache.close()


async def test_quiet_times_out(bus: Bus) -> None:
    async with listening(bus, "a") as subscription:
        assert await subscription.get(0.01) is None


async def test_a_subscription_ends_with_its_block(cache: Cache, bus: Bus) -> None:
    async with listening(bus, "a"), listening(bus, "b"):
        pass

    async def nobody_left() -> bool:
        return (await cache.redis.pubsub_numsub(bus.wire_name("a"), bus.wire_name("b")))[0][1] == 0

    await eventually(nobody_left)


async def test_one_connection_serves_all(cache: Cache, bus: Bus) -> None:
    before = len(await cache.redis.client_list())
    async with listening(bus, "a"), listening(bus, "b"), listening(bus, "c"):
        assert len(await cache.redis.client_list()) == before + 1


async def test_a_slow_reader_loses_the_oldest(bus: Bus) -> None:
    async with listening(bus, "a") as slow, listening(bus, "end") as end:
        for number in range(bus_module.MAX_WAITING_MESSAGES + 10):
            await bus.publish("a", b"%d" % number)
        await bus.publish("end", b"")
        await heard(end)
        assert await slow.get(0) == ("a", b"10")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_after_a_restart_everyone_is_woken_and_hears_again(own_valkey: EmbeddedValkey, how: int) -> None:
    cache = Cache.connect(own_valkey.url)
    bus = Bus(cache)
    async with listening(bus, "a") as subscription, asyncio.timeout(PATIENCE_S):
        pid = own_valkey.pid
        assert pid is not None
        os.kill(pid, how)
        assert await subscription.get(PATIENCE_S) is None  # woken: something may have been missed
        while not await bus.publish("a", b"back"):
            pass
        assert await heard(subscription) == ("a", b"back")
    await bus.close()
    await cache.close()


async def test_without_a_server_publishing_says_so_and_listening_waits() -> None:
    cache = Cache.connect("redis://127.0.0.1:1/0")
    bus = Bus(cache)
    async with bus.subscribe("a") as subscription:
        assert not await bus.publish("a", b"")
        assert await subscription.get(0.01) is None
    await bus.close()
    await cache.close()


async def test_a_dead_connection_is_noticed(cache: Cache, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-open: no bytes come, no end either. The server is paused, so that it answers no ping."""
    monkeypatch.setattr(bus_module, "PING_EVERY_S", 0.05)
    async with listening(bus, "a") as subscription:
        await cache.redis.client_pause(300)
        assert await subscription.get(PATIENCE_S) is None


async def test_close_ends_the_task(bus: Bus) -> None:
    async with listening(bus, "a"):
        await bus.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "bus"]
