"""How many seconds of audio are owed, by tier: read from the queue's own table, since engines know no tiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from api.telemetry.catalogue import TIERS
from api.telemetry.registry import Registry, tier_label

GAUGE: Final = "tutti_engine_backlog_audio_seconds"


class BacklogGauge:
    """
    Args:
        models: those that are told of also when nothing is owed.
    """

    def __init__(self, registry: Registry, models: list[str]) -> None:
        self._gauge = registry.gauge(GAUGE)
        self._series = {(model, tier, state) for model in models for tier in TIERS for state in ("queued", "running")}

    def show(self, owed_s: Mapping[tuple[str, str, str], float]) -> None:
        """What is owed now.

        Args:
            owed_s: model, tier, and queued or running → seconds of audio; what is left out is 0.
        """
        shown = dict.fromkeys(self._series, 0.0)
        for (model, tier, state), audio_s in owed_s.items():
            series = (model, tier_label(tier), state)
            shown[series] = shown.get(series, 0.0) + audio_s
        for series, audio_s in shown.items():
            self._gauge.labels(*series).set(audio_s)
        self._series |= shown.keys()
