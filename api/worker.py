"""The composition root of a worker: everything that is done after a request was answered.

It leases generations and has them made, empties the outbox, sends webhooks and clears away what has expired. Any number
of workers may run; each of them may die at any moment. Runs without Ray and without torch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from structlog.typing import FilteringBoundLogger

from api.auth.erasure import ACCOUNT_SWEEP, Eraser
from api.backend import Backend
from api.formats.loudness import load_meter
from api.foundation import Foundation
from api.generations import outbox
from api.generations.outbox import OutboxRelay
from api.generations.service import GenerationService
from api.generations.timing import Timing
from api.generations.waiting import WaitingWork
from api.generations.worker import Worker
from api.heap import settle_heap
from api.logs import WORKER_SERVICE, make_logger
from api.schemas.generations import render
from api.settings import Settings
from api.storage.errors import StorageError
from api.storage.sweep import sweep_orphans
from api.store.errors import StoreError
from api.streams.writer import FeedWriter
from api.tasks import stop
from api.telemetry import budget
from api.telemetry.backlog import GAUGE as BACKLOG
from api.telemetry.backlog import BacklogGauge
from api.telemetry.compose import make_telemetry
from api.telemetry.reporting import reporting
from api.telemetry.work import WorkCounts
from api.telemetry.zeros import begin_at_zero
from api.tracing import Tracing
from api.uploads.service import Uploads
from api.webhooks.service import WebhookService
from autoscaling.fairness import Places
from models.catalog import ModelSpec

PURGE_EVERY_S = 3600.0
SWEEP_EVERY_S = 86_400.0


def create_worker(
    backends: Mapping[str, Backend],
    models: Mapping[str, ModelSpec],
    settings: Settings | None = None,
    *,
    slots: Mapping[str, int] | None = None,
    per_replica: Mapping[str, Places] | None = None,
    base: Foundation | None = None,
    log: FilteringBoundLogger | None = None,
    tracing: Tracing | None = None,
) -> WorkerProcess:
    """Compose a worker; nothing connects before it runs.

    Args:
        backends: model id → what makes its audio.
        models: model id → what it is; the same ids.
        settings: left out: from the environment.
        slots: model id → tracks that this worker has made at once; left out: ``settings.worker_slots`` of each.
        per_replica: model id → what one replica takes; no more than the ready ones take are then made at once.
        base: left out: built from the settings; closed when the worker has stopped.
        log: left out: JSON lines on standard error.
        tracing: left out: as the settings say; closed when the worker has stopped.

    Raises:
        SettingsError: a TUTTI_* variable is unknown or bad, or no cache is configured.
    """
    settings = settings or Settings()
    log = log or make_logger(settings.log_level, log_prompts=settings.log_prompts, service=WORKER_SERVICE)
    base = base or Foundation.build(settings)
    places = {name: (slots or {}).get(name, settings.worker_slots) for name in models}
    tracing = tracing or Tracing.start(settings, WORKER_SERVICE)
    return WorkerProcess(base, backends, models, places, log, tracing, per_replica or {})


class WorkerProcess:
    """All that one worker does, side by side."""

    def __init__(
        self,
        base: Foundation,
        backends: Mapping[str, Backend],
        models: Mapping[str, ModelSpec],
        slots: Mapping[str, int],
        log: FilteringBoundLogger,
        tracing: Tracing,
        per_replica: Mapping[str, Places],
    ) -> None:
        self._base, self._log, self._tracing = base, log, tracing
        self._telemetry = make_telemetry("worker", base.clock, also=[BACKLOG])
        begin_at_zero(self._telemetry.registry, models)
        backlog = BacklogGauge(self._telemetry.registry, list(models))
        self._waiting = WaitingWork(base.db, base.limits.tiers, base.clock, backlog.show)
        counts = WorkCounts(self._telemetry)
        self._generations = GenerationService(
            base.db, base.bus, base.limits, models, base.settings, base.clock, counts.changed
        )
        self._webhooks = WebhookService(base.db, base.vault, base.settings, base.clock)
        self._uploads = Uploads(base.db, base.audio, base.settings, base.clock)
        self._deliverer = self._webhooks.deliverer(log)
        handlers: dict[str, outbox.Handler] = {
            outbox.WEBHOOK_EVENT: self._webhooks.expander(self._render, self._deliverer.wake),
            outbox.OBJECT_DELETE: self._delete_object,
            ACCOUNT_SWEEP: Eraser(base.db, base.clock, counts.changed).handle,
        }
        self._relay = OutboxRelay(base.db, handlers, base.clock, log)
        feed = FeedWriter(base.cache, base.bus)
        self._worker = Worker(
            base.db, base.bus, feed, base.audio, backends, slots, base.limits.tiers, base.clock, log,
            timing=Timing(drain_s=base.settings.worker_drain_s), on_end=self._relay.wake, tracing=tracing,
            counts=counts, per_replica=per_replica, starts=base.limits.starts,
        )  # fmt: skip

    async def run(self) -> None:
        """Until ``stop``, then until what is in hand has ended or was given back."""
        async with self._base.closing(), AsyncExitStack() as closing:
            closing.push_async_callback(self._webhooks.close)
            closing.callback(self._uploads.close)
            closing.push_async_callback(asyncio.to_thread, self._tracing.close)
            await closing.enter_async_context(reporting(self._telemetry, self._worker.id, self._base, self._log))
            async with asyncio.TaskGroup() as group:
                relaying = group.create_task(self._relay.run())
                delivering = group.create_task(self._deliverer.run())
                chores = [
                    group.create_task(self._repeat("purged", PURGE_EVERY_S, self._purge)),
                    group.create_task(self._repeat("swept", SWEEP_EVERY_S, self._sweep)),
                    group.create_task(self._waiting.run()),
                    group.create_task(self._base.limits.starts.run()),
                ]
                group.create_task(asyncio.to_thread(_settle))
                await self._worker.run()
                # What the last generations have left behind is done by whoever runs next, if not by this one.
                await self._relay.stop()
                await relaying
                await self._deliverer.stop()
                await delivering
                await stop(*chores)

    def autoscaling_stats(self, sent_s: Mapping[str, float]) -> dict[str, float]:
        """What waits, for the autoscaler: see ``WaitingWork.stats``."""
        return self._waiting.stats(sent_s)

    async def stop(self) -> None:
        """Take nothing more; ``run`` returns when it is done."""
        await self._worker.stop()

    async def _repeat(self, event: str, every_s: float, chore: Callable[[], Awaitable[int]]) -> None:
        """Do it now and from time to time; what can not be done now is tried again the next time."""
        while True:
            try:
                self._log.info(event, removed=await chore())
            except (StoreError, StorageError, SQLAlchemyError) as error:
                self._log.warning("housekeeping_failed", chore=event, error=type(error).__name__, reason=str(error))
            await asyncio.sleep(every_s)

    async def _purge(self) -> int:
        """Rows that have expired."""
        async with self._base.db.begin() as conn:
            removed = await self._base.limits.purge(conn) + await budget.purge(conn, self._base.clock())
        return removed + await self._uploads.purge()

    async def _sweep(self) -> int:
        """Objects that no row knows."""
        return await sweep_orphans(self._base.db, self._base.objects, self._base.clock())

    async def _render(self, generation_id: str) -> Mapping[str, Any] | None:
        view = await self._generations.snapshot(generation_id)
        return None if view is None else render(view, self._base.settings.public_url)

    async def _delete_object(self, payload: Mapping[str, Any]) -> None:
        await self._base.audio.delete(str(payload["object_key"]))


def _settle() -> None:
    load_meter()
    settle_heap()
