"""A registry served and listed from a thread of its own, in processes that are not ours to schedule."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.cache.client import Cache
from api.environment import PREFIX, SettingsError, explain
from api.telemetry.discovery import exposed
from api.telemetry.options import MetricsHost, MetricsToken
from api.telemetry.recorder import Role
from api.telemetry.registry import Registry

EVERY_S: Final = 1.0


class MetricsSettings(BaseSettings):
    """Of a process that needs none of the others.

    Raises:
        SettingsError: a value is out of range.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    redis_url: str | None = None
    metrics_host: MetricsHost = "127.0.0.1"
    metrics_token: MetricsToken = None

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(explain(error)) from None


class Exposure:
    """
    Args:
        replica: names the process; no other has the same.
        look: brings the registry up to date; called about once a second, in the thread of this object.
        also: done after each look, with the connection.
        settings: without a cache nothing is served, for nobody would find it.
    """

    def __init__(
        self,
        registry: Registry,
        role: Role,
        replica: str,
        look: Callable[[], None],
        settings: MetricsSettings,
        also: Callable[[Cache], Awaitable[None]] | None = None,
    ) -> None:
        self._registry, self._role, self._replica = registry, role, replica
        self._look, self._also = look, also
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tutti-{role}-metrics", daemon=True)

    def start(self) -> None:
        if self._settings.redis_url is not None:
            self._thread.start()

    def close(self) -> None:
        """Off the list, and the port is given back. Calling it twice is fine."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        assert self._settings.redis_url is not None, "without it the thread is not started"
        cache = Cache.connect(self._settings.redis_url)
        try:
            async with exposed(self._registry, self._role, self._replica, self._settings, cache):
                while not self._stopping.is_set():
                    self._look()
                    if self._also is not None:
                        await self._also(cache)
                    await asyncio.to_thread(self._stopping.wait, EVERY_S)
        finally:
            await cache.close()
