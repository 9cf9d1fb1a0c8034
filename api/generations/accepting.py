"""From a call to an accepted generation: one transaction, all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth.principal import Principal
from api.clock import Clock
from api.generations import conditioning, states
from api.generations.plan import Plan, make_plan, rows_of
from api.generations.view import CreateGeneration, Mode
from api.limits import Limits, Newcomer, concurrency, idempotency, quota
from api.limits.idempotency import Claim
from api.settings import Settings
from api.store.database import Database
from models.catalog import ModelSpec

_ACCEPTED = 202


@dataclass(slots=True)
class Call:
    """A create on its way.

    Attributes:
        generation_id: all is written; only the commit is left, if there was not one before.
        replayed: it had been accepted before.
    """

    principal: Principal
    wish: CreateGeneration
    mode: Mode
    idempotency_key: str | None
    request_hash: str
    request_id: str
    generation_id: str | None = None
    replayed: bool = False


class Acceptance:
    """
    Args:
        models: model id → what it is; the first one is the default unless the settings name another.
    """

    def __init__(
        self, db: Database, limits: Limits, models: Mapping[str, ModelSpec], settings: Settings, clock: Clock
    ) -> None:
        self._db = db
        self._limits = limits
        self._models = models
        self._settings = settings
        self._clock = clock

    def plan(self, call: Call) -> Plan:
        """What the call amounts to; raises as `make_plan`."""
        tier = self._limits.tier(call.principal.tier)
        return make_plan(call.wish, tier, self._models, self._settings.default_model or next(iter(self._models)))

    async def admit(self, call: Call, plan: Plan) -> str:
        """Its id.

        Raises:
            InvalidRequestError: the audio that it refers to does not fit.
            ApiError: why it is not accepted.
        """
        await self._limits.starts.refresh()
        await self._limits.backlogs.refresh(self._db, self._clock())
        if call.idempotency_key is None:
            self._limits.admission.check_early(_newcomer(call.principal, plan, call.mode))
        async with self._db.begin() as conn:
            claim = await self._claim(conn, call)
            if claim is not None and claim.replay is not None:
                generation_id = claim.replay.resource_id
                assert generation_id is not None, "what was stored under a key of this route names it"
                call.replayed = True
            else:
                generation_id = await self._accept(conn, call, await self._with_audio(conn, call, plan))
                if claim is not None:
                    await idempotency.complete(conn, claim, status=_ACCEPTED, body=None, resource_id=generation_id)
            call.generation_id = generation_id
        return generation_id

    async def _with_audio(self, conn: AsyncConnection, call: Call, plan: Plan) -> Plan:
        """The plan, with where the audio lies that it refers to, if it does."""
        wanted = plan.wish.conditioning
        if not wanted:
            return plan
        account_id, now = call.principal.account_id, self._clock()
        return plan.with_audio(await conditioning.accept(conn, account_id, wanted, plan.spec, plan.duration_s, now))

    async def _claim(self, conn: AsyncConnection, call: Call) -> Claim | None:
        if call.idempotency_key is None:
            return None
        account_id = call.principal.account_id
        return await idempotency.claim(conn, account_id, call.idempotency_key, call.request_hash, self._clock())

    async def _accept(self, conn: AsyncConnection, call: Call, plan: Plan) -> str:
        principal, mode = call.principal, call.mode
        account_id, tier, now = principal.account_id, plan.tier, self._clock()
        await concurrency.check(conn, account_id, tier, mode)
        await self._limits.admission.check(conn, _newcomer(principal, plan, mode))
        windows = (
            []
            if principal.test_mode
            else await quota.reserve(conn, account_id, tier, generations=1, audio_s=plan.audio_s, now=now)
        )
        expiry_s = self._settings.stream_queue_expiry_s if mode == "stream" else tier.queue_expiry_s
        # While a model that sleeps wakes up nobody's patience is used up.
        expiry_s += self._limits.starts.of(plan.spec.id).in_s
        row, tracks = rows_of(
            plan, principal, mode, call.request_id, now, queue_expiry_s=expiry_s, quota_windows=windows
        )
        await states.create(conn, row, tracks)
        await conditioning.keep(conn, row["conditioning"], row["expires_at"])
        generation_id: str = row["id"]
        return generation_id


def _newcomer(principal: Principal, plan: Plan, mode: Mode) -> Newcomer:
    return Newcomer(
        principal.account_id, plan.spec.id, plan.tier, mode, plan.cost_steps, plan.wish.num_tracks, plan.audio_s
    )
