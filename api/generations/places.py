"""How many tracks the workers together have made at once: as many as the replicas that are ready take.

More would wait before the replicas in the order in which they were leased, where neither tiers nor accounts count, and
the slots that a tier leaves free would be no replica's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from api.backend import Backend
from autoscaling.fairness import Places, Slots
from models.errors import TuttiError

_CANNOT_TELL = (TuttiError, OSError, TimeoutError)


class ReadyPlaces:
    """
    Args:
        most: model → tracks at once, whatever replicas there are.
        per_replica: model → what each of its replicas takes; a model that is not named always has its most.
        backends: model → who knows how many replicas there are.
    """

    def __init__(
        self, most: Mapping[str, int], per_replica: Mapping[str, Places], backends: Mapping[str, Backend]
    ) -> None:
        self._most, self._per_replica, self._backends = dict(most), dict(per_replica), backends
        self._ready = dict.fromkeys(per_replica, 1)

    def slots(self, model_id: str, taken: int) -> Slots:
        """Of a model, for all workers.

        Args:
            taken: tracks in this worker's hands; what others hold SQL knows (``leases.acquire``).
        """
        most = self._most[model_id]
        if model_id not in self._per_replica:
            return Slots(most, max(0, most - taken))
        return self._per_replica[model_id].slots(self._ready[model_id], most, taken)

    async def follow(self, every_s: float, changed: Callable[[str], None]) -> None:
        """Ask for the replicas again and again, until cancelled.

        Args:
            changed: told of each model at the beginning, and whenever there are more or fewer replicas of it.
        """
        for model_id in self._per_replica:
            changed(model_id)
        while self._per_replica:
            for model_id in self._per_replica:
                if await self._look(model_id):
                    changed(model_id)
            await asyncio.sleep(every_s)

    async def _look(self, model_id: str) -> bool:
        """None at all changes nothing: either nobody can tell, or all are asleep, and what is leased wakes one up."""
        try:
            ready = await self._backends[model_id].replicas()
        except _CANNOT_TELL:
            return False
        if ready in {0, self._ready[model_id]}:
            return False
        self._ready[model_id] = ready
        return True
