"""What routes and streams do with generations: create, look at, wait for, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from api.auth.principal import Principal
from api.cache.bus import Bus
from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.generations import doorbells, rows, states
from api.generations.accepting import Acceptance, Call
from api.generations.arrivals import ModelArrivals
from api.generations.states import Change
from api.generations.view import Created, CreateGeneration, GenerationView, Mode, State
from api.limits import Limits
from api.settings import Settings
from api.store.database import Database
from api.store.errors import StoreError
from api.streams import keys
from api.tasks import cancel_later, to_the_end
from api.tracing import span
from models.catalog import ModelSpec

MAX_WAIT_S = 60.0
_LOOK_EVERY_S = 1.0  # while waiting, when no doorbell comes


class GenerationService:
    """Composed without I/O.

    Args:
        models: model id → what it is; the first one is the default unless the settings name another.
        on_change: told of every change of state that this service has committed.

    Attributes:
        arrivals: what is asked for of it.
    """

    def __init__(
        self,
        db: Database,
        bus: Bus,
        limits: Limits,
        models: Mapping[str, ModelSpec],
        settings: Settings,
        clock: Clock,
        on_change: Callable[[Change], None] = lambda _change: None,
    ) -> None:
        self.arrivals = ModelArrivals(models, clock)
        self._on_change = on_change
        self._db = db
        self._bus = bus
        self._limits = limits
        self._models = dict(models)
        self._acceptance = Acceptance(db, limits, self._models, settings, clock)
        self._clock = clock
        self._ringing: set[asyncio.Task[bool]] = set()

    async def create(
        self,
        principal: Principal,
        wish: CreateGeneration,
        *,
        mode: Mode = "async",
        idempotency_key: str | None = None,
        request_hash: str = "",
        request_id: str,
    ) -> Created:
        """Accept a generation: all of it in one transaction, or nothing.

        Args:
            idempotency_key: checked by ``idempotency.validate_key``.
            request_hash: of the request, by ``idempotency.request_hash``; needed with a key.

        Raises:
            InvalidRequestError, ModelNotFoundError: what is asked for cannot be had.
            ApiError: quota_exceeded, concurrency_limit_exceeded, system_overloaded, idempotency_key_reused,
                idempotency_in_flight.
        """
        call = Call(principal, wish, mode, idempotency_key, request_hash, request_id)
        with span("admission", mode=mode):
            try:
                return await self._create(call)
            except asyncio.CancelledError:
                # The client has left. What is committed is accepted all the same: who asked counts it, and ends it.
                created = None if call.generation_id is None else await to_the_end(self._committed(call))
                if created is None:
                    raise
                cancel_later()
                return created

    async def _create(self, call: Call) -> Created:
        plan = self._acceptance.plan(call)
        try:
            generation_id = await self._acceptance.admit(call, plan)
        except ApiError as refusal:
            if refusal.code == ErrorCode.SYSTEM_OVERLOADED:  # what there is no room for is asked for all the same
                self.arrivals.add(plan.spec.id, plan.audio_s)
            raise
        if not call.replayed:
            self.arrivals.add(plan.spec.id, plan.audio_s)
            self._ring(doorbells.JOBS, b"")
        return Created(await self.get(call.principal, generation_id), call.replayed)

    async def _committed(self, call: Call) -> Created | None:
        """What has become of a call that was given up; None: it was not committed, or nobody can say."""
        assert call.generation_id is not None
        try:
            view = await self._look(call.generation_id, call.principal.account_id)
        except StoreError:
            return None
        return None if view is None else Created(view, call.replayed)

    async def get(self, principal: Principal, generation_id: str) -> GenerationView:
        """
        Raises:
            ApiError: generation_not_found: there is none, or it is another account's.
        """
        found = await self._look(generation_id, principal.account_id)
        if found is None:
            raise ApiError(ErrorCode.GENERATION_NOT_FOUND)
        return found

    async def snapshot(self, generation_id: str) -> GenerationView | None:
        """For those who have checked already whose it is: streams and webhooks."""
        return await self._look(generation_id, None)

    async def cancel(self, principal: Principal, generation_id: str) -> GenerationView:
        """Ask for a cancel, whatever state it is in; what has ended stays as it is. Engines stop within two seconds.

        Raises:
            ApiError: generation_not_found.
        """
        async with self._db.begin() as conn:
            change = await states.request_cancel(conn, generation_id, principal.account_id, self._clock())
        if change is not None:
            self._on_change(change)
            self._ring(doorbells.CANCEL, generation_id.encode())
            self._ring(keys.channel(generation_id), keys.ring_state(change.version))
        return await self.get(principal, generation_id)

    async def wait(self, principal: Principal, generation_id: str, seconds: float) -> GenerationView:
        """Until it has ended, but no longer than ``seconds`` (at most ``MAX_WAIT_S``): then as it is.

        Raises:
            ApiError: generation_not_found.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + min(seconds, MAX_WAIT_S)
        async with self._bus.subscribe(keys.channel(generation_id)) as doorbell:
            view = await self.get(principal, generation_id)
            while not view.is_terminal and (left_s := until - loop.time()) > 0:
                message = await doorbell.get(min(left_s, _LOOK_EVERY_S))
                ring = keys.understand(message[1]) if message else None
                if message is None or (ring is not None and ring.kind == b"state"):
                    view = await self.get(principal, generation_id)
        return view

    async def close(self) -> None:
        """Let doorbells that are being rung ring."""
        await asyncio.gather(*self._ringing, return_exceptions=True)

    # ------------------------------------------------------------------------------------------- parts
    async def _look(self, generation_id: str, account_id: str | None) -> GenerationView | None:
        async with self._db.read() as conn:
            view = await rows.read(conn, generation_id, account_id)
            if view is None or view.is_terminal:
                return view
            if view.state != State.QUEUED or view.expires_at > self._clock():
                outlook = await self._limits.outlook(conn, view)
                return view.with_progress(outlook.queue_position, outlook.eta_s)
        return await self._expired(view)

    async def _expired(self, view: GenerationView) -> GenerationView | None:
        """End what has waited too long. Workers do so too, but when none is there nobody shall wait for ever."""
        try:
            async with self._db.begin() as conn:
                change = await states.expire(conn, view.id, view.account_id, self._clock())
                found = await rows.read(conn, view.id)
        except StoreError:
            return view  # the next look tries again
        if change is not None:
            self._on_change(change)
            self._ring(keys.channel(view.id), keys.ring_state(change.version))
        return found

    def _ring(self, channel: str, payload: bytes) -> None:
        """Beside the answer, which does not wait for Valkey: whoever should hear it looks by itself as well."""
        task = asyncio.create_task(self._bus.publish(channel, payload))
        self._ringing.add(task)
        task.add_done_callback(self._ringing.discard)
