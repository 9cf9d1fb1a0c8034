"""Refuse at the door what would wait too long, and say honestly when to come back.

The backlog drains at the measured rate, so a wait that is w − bound seconds too long is short enough after w − bound
seconds, and after as many more as those take who were refused before and come back earlier: that is Retry-After.

So there are three answers: it begins at once; it waits for at most as long as its tier is promised, and ``eta_s`` says
for how long; or it is refused. Nobody knows who of larger tiers comes later and goes first: a job is let in by the wait
that is expected, a listener only if it would be short enough with less luck (``SPREAD``). When there is too much for
all, tiers feel it from the smallest share up, since what is left over goes to the largest. Of one tier jobs are refused
first: while a listener who was sent away has not come back, only jobs are let in that begin at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.generations.outlook import Backlogs
from api.limits.coming_back import MAX_LATER_S, ComingBack
from api.limits.concurrency import Mode
from api.limits.tiers import Tier, Tiers
from api.store.schema import accounts
from autoscaling.backlog import Backlog, Line, ModelBacklog, Work, tier_ahead
from autoscaling.waits import SPREAD, wait_s

BLIND_QUEUE = 64
"""Generations of a model that may wait while no worker is there to estimate by: a restart of the workers passes."""
BLIND_RETRY_S = 10.0
_BEHIND_S = 0.01
"""Of the clock: more than newcomers are set behind those of equal clocks, see ``books.LATER``."""
_UNKNOWN_STEPS = 500.0
"""Of a generation that was refused unread, while none waits to compare it with."""
_OWN_CLOCK = select(accounts.c.virtual_s).where(accounts.c.id == bindparam("account_id"))


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
    """The decision of one process, from a backlog that is at most 250 ms old.

    Args:
        monotonic: seconds that only go forward, by which those who were refused come back.
    """

    def __init__(
        self, tiers: Tiers, backlogs: Backlogs, clock: Clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._backlogs = backlogs
        self._rules = tiers.rules
        self._clock = clock
        self._monotonic = monotonic
        self._outside: dict[tuple[str, str, Mode], ComingBack] = {}

    async def check(self, conn: AsyncConnection, newcomer: Newcomer) -> None:
        """Let a generation in, or refuse it.

        Args:
            conn: any connection. One row is read if the account has nothing waiting, and the backlog at most four
                times a second.

        Raises:
            ApiError: system_overloaded, with Retry-After.
        """
        backlog = await self._backlogs.get(conn, self._clock())
        own_s = None
        if backlog.of(newcomer.model_id).line(newcomer.tier.name, newcomer.account_id) is None:
            own_s = await conn.scalar(_OWN_CLOCK, {"account_id": newcomer.account_id})
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

    def check_unread(self, account_id: str, tier: Tier, mode: Mode, model_ids: Iterable[str]) -> None:
        """Refuse a call whose body nobody has read, if not even a single step of any of these models would be let in.

        Raises:
            ApiError: system_overloaded, with the earliest Retry-After of the models.
        """
        backlog = self._backlogs.fresh(self._clock())
        if backlog is None:
            return
        refusals: list[_Refusal] = []
        for model_id in model_ids:
            newcomer = Newcomer(account_id, model_id, tier, mode, 1, 1, 0.0)
            refusal = self._refusal(backlog, newcomer, self._clock_s(backlog, newcomer, None))
            if refusal is None:
                return
            refusals.append(refusal)
        if refusals:
            first = min(refusals, key=lambda each: each.retry_after_s)
            waiting = backlog.of(first.model_id).waiting
            self._turn_away(
                first, tier, mode, waiting.steps / waiting.generations if waiting.generations else _UNKNOWN_STEPS
            )

    def _clock_s(self, backlog: Backlog, newcomer: Newcomer, own_s: float | None) -> float:
        """Where the account stands on the fair queue's clock; at least there, if its own row is not known."""
        line = backlog.of(newcomer.model_id).line(newcomer.tier.name, newcomer.account_id)
        if line is not None:
            return line.virtual_s
        floor_s = backlog.floor_s(newcomer.tier.name) + _BEHIND_S
        return floor_s if own_s is None else max(own_s, floor_s)

    def _decide(self, backlog: Backlog, newcomer: Newcomer, clock_s: float) -> None:
        refusal = self._refusal(backlog, newcomer, clock_s)
        if refusal is not None:
            self._turn_away(refusal, newcomer.tier, newcomer.mode, newcomer.cost_steps)

    def _refusal(self, backlog: Backlog, newcomer: Newcomer, clock_s: float) -> _Refusal | None:
        model, tier = backlog.of(newcomer.model_id), newcomer.tier
        line = model.line(tier.name, newcomer.account_id)
        own, own_audio_s = (line.work, line.audio_s) if line is not None else (Work(), 0.0)
        begins_s = clock_s + self._rules[tier.name].charge_s(own_audio_s)
        ahead = own + tier_ahead(tier.name, newcomer.account_id, begins_s, model, self._rules)
        spread = SPREAD if newcomer.mode == "stream" else 0.0
        wait = wait_s(tier.name, ahead, newcomer.num_tracks, model, self._rules, spread=spread)
        if wait is None:
            return _blind_refusal(newcomer.model_id, model)
        if wait <= newcomer.bound_s:
            return self._refusal_for_listeners(newcomer, wait)
        modes: tuple[Mode, ...] = ("stream",) if newcomer.mode == "stream" else ("stream", "async")
        outside = Work(math.fsum(self._line_outside(newcomer.model_id, tier, mode).amount for mode in modes), 0, 0)
        behind_s = wait_s(tier.name, ahead + outside, newcomer.num_tracks, model, self._rules, spread=spread)
        assert behind_s is not None, "who can be estimated for one line can be for a longer one"
        return _Refusal(
            newcomer.model_id,
            f"this would wait about {wait:.0f} s, and the {tier.name} tier is promised {newcomer.bound_s:g} s: "
            "send it again after Retry-After seconds",
            {"estimated_wait_s": round(wait, 1), "max_wait_s": newcomer.bound_s},
            wait - newcomer.bound_s + min(behind_s - wait, MAX_LATER_S),
        )

    def _refusal_for_listeners(self, newcomer: Newcomer, wait: float) -> _Refusal | None:
        """A job takes no place that a listener of its tier was refused and may come back for."""
        if newcomer.mode == "stream" or wait == 0:
            return None
        listeners = self._line_outside(newcomer.model_id, newcomer.tier, "stream")
        if listeners.amount <= 0:
            return None
        return _Refusal(
            newcomer.model_id,
            f"listeners of the {newcomer.tier.name} tier have to be refused at the moment, and jobs give way to them: "
            "send it again after Retry-After seconds",
            {"estimated_wait_s": round(wait, 1), "max_wait_s": newcomer.bound_s},
            listeners.last_s,
        )

    def _line_outside(self, model_id: str, tier: Tier, mode: Mode) -> ComingBack:
        return self._outside.setdefault((model_id, tier.name, mode), ComingBack(self._monotonic))

    def _turn_away(self, refusal: _Refusal, tier: Tier, mode: Mode, steps: float) -> None:
        """
        Raises:
            ApiError: always.
        """
        self._line_outside(refusal.model_id, tier, mode).add(steps, refusal.retry_after_s)
        raise ApiError(
            ErrorCode.SYSTEM_OVERLOADED,
            refusal.message,
            details=refusal.details,
            retry_after_s=refusal.retry_after_s,
        )


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a generation is not let in, and when it may come back."""

    model_id: str
    message: str
    details: dict[str, Any]
    retry_after_s: float


def _blind_refusal(model_id: str, model: ModelBacklog) -> _Refusal | None:
    if model.waiting.generations < BLIND_QUEUE:
        return None
    return _Refusal(
        model_id,
        "no worker is there for this model, and as many generations wait for one as may: "
        "send it again after Retry-After seconds",
        {"queued": model.waiting.generations},
        BLIND_RETRY_S,
    )
