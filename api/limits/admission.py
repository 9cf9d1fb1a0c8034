"""Refuse at the door what would wait too long, and say honestly when to come back.

The backlog drains at the measured rate, so a wait that is w − bound seconds too long is short enough after w − bound
seconds without newcomers: that is Retry-After.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.generations.backlog import Backlog, Line, ModelBacklog, Work, tier_ahead, wait_s
from api.generations.outlook import Backlogs
from api.limits.concurrency import Mode
from api.limits.tiers import Tier, Tiers
from api.store.schema import accounts

BLIND_QUEUE = 64
"""Generations of a model that may wait while no worker is there to estimate by: a restart of the workers passes."""
BLIND_RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A generation that asks to be let in."""

    account_id: str
    model_id: str
    tier: Tier
    mode: Mode
    cost_steps: int
    num_tracks: int
    audio_s: float

    @property
    def bound_s(self) -> float:
        return self.tier.max_stream_wait_s if self.mode == "stream" else self.tier.max_wait_s


class Admission:
    """The decision of one process, from a backlog that is at most 250 ms old."""

    def __init__(self, tiers: Tiers, backlogs: Backlogs, clock: Clock) -> None:
        self._backlogs = backlogs
        self._rules = tiers.rules
        self._clock = clock

    async def check(self, conn: AsyncConnection, newcomer: Newcomer) -> None:
        """Let a generation in, or refuse it.

        Args:
            conn: any connection. One row is read, and the backlog at most four times a second.

        Raises:
            ApiError: system_overloaded, with Retry-After.
        """
        backlog = await self._backlogs.get(conn, self._clock())
        own_s = await conn.scalar(select(accounts.c.virtual_s).where(accounts.c.id == newcomer.account_id))
        clock_s = self._clock_s(backlog, newcomer, own_s)
        self._decide(backlog, newcomer, clock_s)
        work = Work(newcomer.cost_steps, newcomer.num_tracks, 1)
        line = Line(newcomer.account_id, clock_s, work, newcomer.audio_s)
        self._backlogs.add(newcomer.model_id, newcomer.tier.name, line)

    def check_early(self, newcomer: Newcomer) -> None:
        """Refuse without a database what ``check`` would surely refuse; otherwise say nothing.

        For calls without an idempotency key, before their transaction: under overload a refusal then costs nothing that
        accepted work needs.

        Raises:
            ApiError: system_overloaded, with Retry-After.
        """
        backlog = self._backlogs.fresh(self._clock())
        if backlog is not None:
            self._decide(backlog, newcomer, self._clock_s(backlog, newcomer, None))

    def _clock_s(self, backlog: Backlog, newcomer: Newcomer, own_s: float | None) -> float:
        """Where the account stands on the fair queue's clock; at least there, if its own row is not known."""
        line = backlog.of(newcomer.model_id).line(newcomer.tier.name, newcomer.account_id)
        if line is not None:
            return line.virtual_s
        floor_s = backlog.floor_s(newcomer.tier.name)
        return floor_s if own_s is None else max(own_s, floor_s)

    def _decide(self, backlog: Backlog, newcomer: Newcomer, clock_s: float) -> None:
        model, tier = backlog.of(newcomer.model_id), newcomer.tier
        line = model.line(tier.name, newcomer.account_id)
        own, own_audio_s = (line.work, line.audio_s) if line is not None else (Work(), 0.0)
        begins_s = clock_s + self._rules[tier.name].charge_s(own_audio_s)
        ahead = own + tier_ahead(tier.name, newcomer.account_id, begins_s, model, self._rules)
        wait = wait_s(tier.name, ahead, newcomer.num_tracks, model, self._rules)
        if wait is None:
            _decide_blind(model)
        elif wait > newcomer.bound_s:
            raise ApiError(
                ErrorCode.SYSTEM_OVERLOADED,
                f"this would wait about {wait:.0f} s, and the {tier.name} tier is promised {newcomer.bound_s:g} s: "
                "send it again after Retry-After seconds",
                details={"estimated_wait_s": round(wait, 1), "max_wait_s": newcomer.bound_s},
                retry_after_s=wait - newcomer.bound_s,
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
