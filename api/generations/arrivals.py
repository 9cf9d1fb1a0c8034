"""What is asked for, by model, as the autoscaler wants to know it: whether it was let in or had to be refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from api.clock import Clock
from autoscaling.arrivals import ArrivalMeter

FIELDS: Final = ("short_s", "medium_s", "long_s", "dispersion", "mean_audio_s")


class ModelArrivals:
    """The calls that one gateway has seen.

    Args:
        models: ids of all that are served; those nobody asks for are told of too.
    """

    def __init__(self, models: Iterable[str], clock: Clock) -> None:
        self._clock = clock
        began_at = clock().timestamp()
        self._meters = {model: ArrivalMeter(began_at) for model in models}

    def add(self, model: str, audio_s: float) -> None:
        """A generation of ``audio_s`` seconds, all tracks together, was asked for."""
        self._meters[model].add(self._clock().timestamp(), audio_s)

    def stats(self) -> dict[str, float]:
        """``<model>:<field>`` for each field of ``autoscaling.arrivals.Arrivals``."""
        now = self._clock().timestamp()
        read = {model: meter.read(now) for model, meter in self._meters.items()}
        return {
            f"{model}:{field}": float(getattr(arrivals, field)) for model, arrivals in read.items() for field in FIELDS
        }
