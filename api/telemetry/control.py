"""The control plane: what the autoscaler decides, shown by the process of Serve's controller."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from redis.exceptions import RedisError

from api.cache.client import Cache
from api.generations.starts import publish
from api.ids import new_id
from api.telemetry.discovery import Targets
from api.telemetry.exposure import Exposure, MetricsSettings
from api.telemetry.registry import Registry, Values
from api.version import VERSION

_CACHE_ERRORS = (RedisError, OSError, TimeoutError)


class Meter(Protocol):
    """Whoever collects what the autoscaler sees and decides; called in the thread of the exposure."""

    def zeros(self) -> Values: ...
    def read(self) -> tuple[Values, Values]: ...
    def starts(self) -> Mapping[str, tuple[float, float | None]]: ...
    def due(self) -> Mapping[str, Sequence[tuple[float, int]]]: ...
    def heard_of(self, replicas: Collection[str]) -> None: ...


class ControlExposure:
    """
    Args:
        meter: read about once a second. It is told which engines are alive; what it knows of models that sleep and
            of replicas that start is told to gateways and workers.
        settings: left out: from the environment. Without a cache nothing is served, for nobody would find it.
    """

    def __init__(self, meter: Meter, settings: MetricsSettings | None = None) -> None:
        self.registry: Final = Registry(("control",), ("tutti_build_info",))
        self._meter = meter
        self._exposure = Exposure(
            self.registry, "controller", new_id("ctl"), self.look, settings or MetricsSettings(), self._exchange
        )
        self.registry.gauge("tutti_build_info").labels(VERSION, "controller").set(1)

    def start(self) -> None:
        self._exposure.start()

    def look(self) -> None:
        """Take what has happened since the last look."""
        for name, series in self._meter.zeros().items():
            for labels in series:
                self.registry.counter(name).labels(*labels)
        self.registry.take(*self._meter.read())

    def close(self) -> None:
        """Off the list, and the port is given back. Calling it twice is fine."""
        self._exposure.close()

    async def _exchange(self, cache: Cache) -> None:
        with suppress(*_CACHE_ERRORS):  # readiness tells of it
            self._meter.heard_of({each.replica for each in await Targets(cache).all() if each.role == "engine"})
            await publish(cache, self._meter.starts(), self._meter.due())
