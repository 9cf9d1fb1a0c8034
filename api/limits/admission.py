"""Refuse at the door what would wait too long, and say honestly when to come back.

The backlog drains at the measured rate, so a wait that is w − bound seconds too long is short enough after w − bound
seconds without newcomers: that is Retry-After.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.generations.backlog import Backlog, ModelBacklog, Work, wait_s
from api.generations.outlook import Backlogs
from api.limits.concurrency import Mode
from api.limits.tiers import Tier, Tiers

BLIND_QUEUE = 64
"""Generations of a model that may wait while no worker is there to estimate by: a restart of the workers passes."""
BLIND_RETRY_S = 10.0


class Admission:
    """The decision of one process, from a backlog that is at most 250 ms old."""

    def __init__(self, tiers: Tiers, backlogs: Backlogs, clock: Clock) -> None:
        self._backlogs = backlogs
        self._clock = clock
        self._shares = tiers.shares

    async def check(
        self,
        conn: AsyncConnection,
        *,
        model_id: str,
        tier: Tier,
        mode: Mode,
        cost_steps: int,
        num_tracks: int,
    ) -> None:
        """Let a generation in, or refuse it.

        Args:
            conn: any connection; used at most four times a second.

        Raises:
            ApiError: system_overloaded, with Retry-After.
        """
        backlog = await self._backlogs.get(conn, self._clock())
        self._decide(backlog, model_id, tier, mode, num_tracks)
        self._backlogs.add(model_id, tier.name, Work(cost_steps, num_tracks, 1))

    def check_early(self, *, model_id: str, tier: Tier, mode: Mode, num_tracks: int) -> None:
        """Refuse without a database, if the backlog is known well enough to; otherwise say nothing.

        For calls without an idempotency key, before their transaction: under overload a refusal then costs nothing that
        accepted work needs.

        Raises:
            ApiError: system_overloaded, with Retry-After.
        """
        backlog = self._backlogs.fresh(self._clock())
        if backlog is not None:
            self._decide(backlog, model_id, tier, mode, num_tracks)

    def _decide(self, backlog: Backlog, model_id: str, tier: Tier, mode: Mode, num_tracks: int) -> None:
        model = backlog.of(model_id)
        own = model.queued.get(tier.name, Work())
        wait = wait_s(tier.name, own, num_tracks, model, self._shares)
        if wait is None:
            _decide_blind(model)
            return
        bound_s = tier.max_stream_wait_s if mode == "stream" else tier.max_wait_s
        if wait > bound_s:
            raise ApiError(
                ErrorCode.SYSTEM_OVERLOADED,
                f"this would wait about {wait:.0f} s, and the {tier.name} tier is promised {bound_s:g} s: "
                "send it again after Retry-After seconds",
                details={"estimated_wait_s": round(wait, 1), "max_wait_s": bound_s},
                retry_after_s=wait - bound_s,
            )


def _decide_blind(model: ModelBacklog) -> None:
    if model.waiting.generations >= BLIND_QUEUE:
        raise ApiError(
            ErrorCode.SYSTEM_OVERLOADED,
            "no worker is there for this model, and as many generations wait for one as may: "
            "send it again after Retry-After seconds",
            details={"queued": model.waiting.generations},
            retry_after_s=BLIND_RETRY_S,
        )
