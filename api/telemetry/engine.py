"""The engine plane: an engine replica's registry, served and listed from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.cache.client import Cache
from api.environment import PREFIX, SettingsError, explain
from api.ids import new_id
from api.telemetry.discovery import exposed
from api.telemetry.options import MetricsHost, MetricsToken
from api.telemetry.registry import Registry
from api.version import VERSION

EVERY_S: Final = 1.0
Values = Mapping[str, Mapping[str, float]]
"""Metric → value of its second label (empty: it has none) → number."""


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


class EngineExposure:
    """
    Args:
        model: what the engine plays.
        read: increments of counters since the last call, and gauges as they are; called about once a second, in the
            thread of this object, and never in that of the engine.
        settings: left out: from the environment. Without a cache nothing is served, for nobody would find it.
    """

    def __init__(
        self, model: str, read: Callable[[], tuple[Values, Values]], settings: MetricsSettings | None = None
    ) -> None:
        self.registry: Final = Registry(("engine",), ("tutti_build_info",))
        self._model = model
        self._read = read
        self._settings = settings or MetricsSettings()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tutti-engine-metrics", daemon=True)
        self.registry.gauge("tutti_build_info").labels(VERSION, "engine").set(1)

    def start(self) -> None:
        if self._settings.redis_url is not None:
            self._thread.start()

    def look(self) -> None:
        """Take what has happened since the last look."""
        counters, gauges = self._read()
        for name, series in counters.items():
            for label, increment in series.items():
                self.registry.counter(name).labels(*self._labels(label)).inc(increment)
        for name, series in gauges.items():
            for label, value in series.items():
                self.registry.gauge(name).labels(*self._labels(label)).set(value)

    def close(self) -> None:
        """Off the list, and the port is given back. Calling it twice is fine."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _labels(self, second: str) -> tuple[str, ...]:
        return (self._model, second) if second else (self._model,)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        assert self._settings.redis_url is not None, "without it the thread is not started"
        cache = Cache.connect(self._settings.redis_url)
        try:
            async with exposed(self.registry, "engine", new_id("eng"), self._settings, cache):
                while not self._stopping.is_set():
                    self.look()
                    await asyncio.to_thread(self._stopping.wait, EVERY_S)
        finally:
            await cache.close()
