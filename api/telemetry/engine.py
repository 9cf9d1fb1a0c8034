"""The engine plane: an engine replica's registry, served and listed from a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from api.ids import new_id
from api.telemetry import registry
from api.telemetry.exposure import Exposure, MetricsSettings
from api.version import VERSION

Values = Mapping[str, Mapping[str, float]]
"""Metric → value of its second label (empty: it has none) → number."""


class EngineExposure:
    """
    Args:
        model: what the engine plays.
        read: increments of counters since the last call, and gauges as they are; called about once a second, in the
            thread of this object, and never in that of the engine.
        settings: left out: from the environment. Without a cache nothing is served, for nobody would find it.
        replica: names the process as whoever starts and stops it does; left out: a name of its own.
    """

    def __init__(
        self,
        model: str,
        read: Callable[[], tuple[Values, Values]],
        settings: MetricsSettings | None = None,
        replica: str | None = None,
    ) -> None:
        self.registry: Final = registry.Registry(("engine",), ("tutti_build_info",))
        self._model = model
        self._read = read
        self._exposure = Exposure(
            self.registry, "engine", replica or new_id("eng"), self.look, settings or MetricsSettings()
        )
        self.registry.gauge("tutti_build_info").labels(VERSION, "engine").set(1)

    def start(self) -> None:
        self._exposure.start()

    def look(self) -> None:
        """Take what has happened since the last look."""
        self.registry.take(*map(self._labelled, self._read()))

    def close(self) -> None:
        """Off the list, and the port is given back. Calling it twice is fine."""
        self._exposure.close()

    def _labelled(self, values: Values) -> registry.Values:
        return {
            name: {(self._model, second) if second else (self._model,): value for second, value in series.items()}
            for name, series in values.items()
        }
