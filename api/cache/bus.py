"""Doorbells between processes: tiny messages over Valkey's publish/subscribe, any of which may be lost.

A message says "look now", never "this happened": whoever waits also looks by itself every so often. That is what lets
the bus drop messages instead of failing: when Valkey is away, when a subscriber is too slow, while it reconnects.

One connection per process serves every subscription.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from api.cache.client import Cache
from api.tasks import stop

PUBLISH_TIMEOUT_S = 2.0
PING_EVERY_S = 10.0
MAX_WAITING_MESSAGES = 256
_RECONNECT_AFTER_S = (0.05, 0.1, 0.2, 0.5, 1.0)

Message = tuple[str, bytes]


class Subscription:
    """What one reader is told about its channels. Too slow a reader loses the oldest messages."""

    def __init__(self, channels: tuple[str, ...]) -> None:
        self.channels = channels
        self._waiting: deque[Message | None] = deque(maxlen=MAX_WAITING_MESSAGES)
        self._arrived = asyncio.Event()

    async def get(self, timeout_s: float) -> Message | None:
        """The next message as (channel, payload).

        None: nothing came within ``timeout_s`` seconds, or messages may have been missed (the subscription began to
        hold only now, or the connection was lost and is back). Either way: look for yourself.
        """
        if not self._waiting:
            self._arrived.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
            except TimeoutError:
                return None
        return self._waiting.popleft()

    def _put(self, message: Message | None) -> None:
        if message is None and self._waiting and self._waiting[-1] is None:
            return
        self._waiting.append(message)
        self._arrived.set()


class Bus:
    """Publish and subscribe. Opens its connection at the first subscription and keeps it until ``close``."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._by_wire_name: dict[bytes, set[Subscription]] = {}
        self._names: dict[bytes, str] = {}
        self._changed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.connected = False

    def wire_name(self, channel: str) -> str:
        """The channel as Valkey knows it, for scripts that publish by themselves."""
        return self._cache.key("bus", channel)

    async def publish(self, channel: str, payload: bytes) -> bool:
        """Ring. False: Valkey could not be reached, and readers will find out when they look by themselves."""
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await self._cache.redis.publish(self.wire_name(channel), payload)
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    @asynccontextmanager
    async def subscribe(self, *channels: str) -> AsyncIterator[Subscription]:
        """Listen to these channels. Returns at once; ``get`` returns None as soon as Valkey has taken note."""
        subscription = Subscription(channels)
        self._add(subscription)
        try:
            yield subscription
        finally:
            self._remove(subscription)

    async def close(self) -> None:
        """Drop the connection. Subscriptions that are still open hear nothing any more."""
        running, self._running = self._running, None
        if running is not None:
            await stop(running)

    def _add(self, subscription: Subscription) -> None:
        for channel in subscription.channels:
            name = self.wire_name(channel).encode()
            self._names[name] = channel
            self._by_wire_name.setdefault(name, set()).add(subscription)
        self._changed.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="bus")

    def _remove(self, subscription: Subscription) -> None:
        for channel in subscription.channels:
            name = self.wire_name(channel).encode()
            readers = self._by_wire_name[name]
            readers.discard(subscription)
            if not readers:
                del self._by_wire_name[name], self._names[name]
        self._changed.set()

    # ------------------------------------------------------------------------------- the connection
    async def _run(self) -> None:
        failures = 0
        while True:
            with suppress(RedisError, OSError):
                connection = self._make_connection()
                try:
                    await cast(Awaitable[None], connection.connect())  # type: ignore[no-untyped-call]
                    failures = 0
                    await self._use(connection)
                finally:
                    await connection.disconnect(nowait=True)
            await asyncio.sleep(_RECONNECT_AFTER_S[min(failures, len(_RECONNECT_AFTER_S) - 1)])
            failures += 1

    def _make_connection(self) -> AbstractConnection:
        """One beside the pool, with the pool's address and password: nobody may borrow it."""
        make = cast(Callable[[], AbstractConnection], self._cache.redis.connection_pool.make_connection)
        return make()

    async def _use(self, connection: AbstractConnection) -> None:
        """Until the connection breaks. One task reads, one writes: a cancelled reader would lose half a message."""
        self.connected = True
        tasks = [asyncio.create_task(self._read(connection)), asyncio.create_task(self._write(connection))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.connected = False
            self._changed.set()
            await stop(*tasks)

    async def _write(self, connection: AbstractConnection) -> None:
        """Keep what Valkey sends equal to what is subscribed here; ask for a sign of life when all is quiet."""
        sent: set[bytes] = set()
        while self.connected:
            self._changed.clear()
            wanted = set(self._by_wire_name)
            for command, names in (("SUBSCRIBE", wanted - sent), ("UNSUBSCRIBE", sent - wanted)):
                if names:
                    await connection.send_command(command, *names, check_health=False)
            sent = wanted
            try:
                async with asyncio.timeout(PING_EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                await connection.send_command("PING", check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            reply = await connection.read_response(
                timeout=2 * PING_EVERY_S, disconnect_on_error=False, push_request=True
            )
            if reply is None:
                raise RedisConnectionError("no answer to a ping")
            if isinstance(reply, list):
                self._deliver(reply)

    def _deliver(self, reply: list[Any]) -> None:
        kind, name = reply[0], reply[1]
        for reader in self._by_wire_name.get(name, ()):
            if kind == b"message":
                reader._put((self._names[name], reply[2]))
            elif kind == b"subscribe":
                # Also after a reconnect: whatever was published before this moment was missed.
                reader._put(None)
