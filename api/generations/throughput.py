"""How fast each model turns out to be: measured on the tracks that this process has finished."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from autoscaling.fairness import Places, Slots

_KEEP = 0.9  # of what was known, at each finished track: about the last ten count


class Throughput:
    """Decoder steps per second of one track among those beside it, by model.

    Args:
        served_s: for how many seconds a replica of the model has been there. A track that waited for one to start says
            nothing about how fast it goes. None: one always was.
        per_replica: model → tracks that each of its replicas takes; a model that is not named has no more of them with
            more replicas.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        served_s: Callable[[str], float] | None = None,
        per_replica: Mapping[str, Places] | None = None,
    ) -> None:
        self._slots = {model_id: Slots(total, total) for model_id, total in slots.items()}
        self._served_s = served_s or (lambda _model_id: math.inf)
        self._per_replica = dict(per_replica or {})
        self._steps: dict[str, float] = {}
        self._busy_s: dict[str, float] = {}

    def resize(self, model_id: str, slots: Slots) -> None:
        """So many tracks at once from now on."""
        self._slots[model_id] = slots

    def finished(self, model_id: str, steps: int, took_s: float) -> None:
        """A track is done.

        Args:
            steps: its decoder steps.
            took_s: seconds from the call to its last sample, waiting inside the engine included.
        """
        if took_s > self._served_s(model_id):
            return
        self._steps[model_id] = _KEEP * self._steps.get(model_id, 0.0) + steps
        self._busy_s[model_id] = _KEEP * self._busy_s.get(model_id, 0.0) + max(took_s, 1e-6)

    def as_capacity(self) -> dict[str, Any]:
        """For ``workers.capacity``: slots, and steps per second with all of them taken; None before the first track."""
        return {
            name: {"slots": slots.total, "steps_per_s": self._rate(name, slots.total)}
            | ({"at_hand": slots.at_hand} if slots.at_hand else {})
            | ({"per_replica": self._per_replica[name].tracks} if name in self._per_replica else {})
            for name, slots in self._slots.items()
        }

    def _rate(self, model_id: str, slots: int) -> float | None:
        if model_id not in self._steps:
            return None
        return round(slots * self._steps[model_id] / self._busy_s[model_id], 3)
