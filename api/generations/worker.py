"""A worker: takes what is next, has it made, and writes down what became of it.

Everything it knows it can lose. A generation that it holds is safe in SQL under a lease that ends by itself; whatever
the worker writes is refused once somebody else has taken over. It in turn stops working on what it could not extend in
time, so that nothing is made twice at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger

from api.backend import Backend
from api.cache.bus import Bus
from api.clock import Clock
from api.generations import doorbells, leases
from api.generations.execution import Execution
from api.generations.heartbeat import Heartbeat
from api.generations.housekeeping import Housekeeping
from api.generations.patience import Patience, until
from api.generations.places import ReadyPlaces
from api.generations.run import Run
from api.generations.sounds import SoundReader
from api.generations.starts import Starts
from api.generations.states import Change, Lease
from api.generations.telling import Telling
from api.generations.throughput import Throughput
from api.generations.timing import Timing
from api.ids import new_id
from api.limits.tiers import Tiers
from api.logs import correlation
from api.redaction import hiding
from api.storage.audio import AudioLibrary
from api.store.database import Database
from api.streams.writer import FeedWriter
from api.tasks import stop
from api.telemetry.work import WorkCounts
from api.tracing import OpenSpan, Tracing
from autoscaling.fairness import Places, Shares, Slots


class Worker:
    """Runs until it is told to stop. Any number of them may run at once.

    Args:
        backends: model id → what makes its audio.
        slots: model id → tracks at once, at most, of all workers together; only these models are served.
        per_replica: model id → what each of its replicas takes: as many are leased as the ready ones do.
        on_end: called after generations have ended, such as the outbox's ``wake``.
        counts: told of every change that was committed here.
        starts: when models that sleep are awake; left out: they never sleep.
    """

    def __init__(
        self,
        db: Database,
        bus: Bus,
        feed: FeedWriter,
        audio: AudioLibrary,
        backends: Mapping[str, Backend],
        slots: Mapping[str, int],
        tiers: Tiers,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        timing: Timing | None = None,
        on_end: Callable[[], None] = lambda: None,
        tracing: Tracing | None = None,
        counts: WorkCounts | None = None,
        starts: Starts | None = None,
        per_replica: Mapping[str, Places] | None = None,
    ) -> None:
        self.id = new_id("wrk")
        self._db, self._bus, self._feed, self._audio = db, bus, feed, audio
        self._sounds = SoundReader(audio)
        self._backends, self._slots = dict(backends), dict(slots)
        self._places = ReadyPlaces(slots, per_replica or {}, self._backends)
        self._clock, self._log = clock, log.bind(worker=self.id)
        self._timing = timing or Timing()
        self._tracing = tracing or Tracing()
        self._telling = Telling(bus, feed, self._log, on_end, counts)
        rules = tiers.rules
        self._shares = {model_id: Shares(rules) for model_id in slots}
        self._throughput = Throughput(slots, starts.served_s if starts is not None else None, per_replica)
        self._runs: dict[Run, None] = {}  # in the order in which they began
        self._attending: dict[asyncio.Task[None], Run] = {}
        self._patience = Patience(self._timing.lease_s, self._log)
        self._housekeeping = Housekeeping(db, rules, clock, self._telling.changed, self._log)
        self._heartbeat = Heartbeat(db, self.id, self._runs, self._throughput, clock, self._timing, self._patience)
        self._look = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Until ``stop``: then without new leases until those it has have ended or were given back.

        Cancelled, it stops all work at once and writes nothing, as if the process had died.
        """
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(self._heartbeat.run()),
                    group.create_task(self._housekeeping.run(self._timing.housekeeping_s)),
                    group.create_task(self._listen(doorbells.JOBS, self._look)),
                    group.create_task(self._listen(doorbells.CANCEL, self._heartbeat.wanted)),
                    group.create_task(self._places.follow(self._timing.replicas_s, self._resized)),
                ]
                try:
                    await self._take_leases()
                    await self._drain()
                finally:
                    await stop(*background)  # by itself the group would say it once
        finally:
            await self._abandon()
        await self._heartbeat.sign_off()

    async def stop(self) -> None:
        """Take nothing more; ``run`` returns when it is done."""
        self._stopping = True
        self._look.set()

    @property
    def running(self) -> int:
        """Generations in its hands."""
        return len(self._runs)

    # ------------------------------------------------------------------------------------------ the queue
    async def _take_leases(self) -> None:
        while not self._stopping:
            self._look.clear()
            async with self._patience.waiting("leases_wait_for_the_database"):
                for model_id, slots in self._free_slots().items():
                    await self._fill(model_id, slots)
            await until(self._look, self._timing.poll_s)

    def _free_slots(self) -> dict[str, Slots]:
        taken: dict[str, int] = {}
        for run in self._runs:
            model_id = run.lease.view.model_id
            taken[model_id] = taken.get(model_id, 0) + run.num_tracks
        found = {name: self._places.slots(name, taken.get(name, 0)) for name in self._slots}
        return {name: slots for name, slots in found.items() if slots.free > 0}

    def _resized(self, model_id: str) -> None:
        self._throughput.resize(model_id, self._places.slots(model_id, 0))
        self._look.set()

    async def _fill(self, model_id: str, slots: Slots) -> None:
        async with self._db.read() as conn:
            if not await leases.may_lease(conn, self.id, model_id, slots, self._clock()):
                return
        shares = self._shares[model_id].copy()
        asked_at = asyncio.get_running_loop().time()
        async with self._db.begin() as conn:
            taken = await leases.acquire(
                conn, self.id, model_id, slots, shares, self._clock(), lease_s=self._timing.lease_s
            )
        self._shares[model_id] = shares
        for lease in taken:
            self._begin(lease, asked_at + self._timing.lease_s)

    def _begin(self, lease: Lease, lease_until: float) -> None:
        backend = self._backends[lease.view.model_id]
        execution = Execution(lease, backend, self._feed, self._audio, self._throughput, self._clock, self._sounds)
        view = lease.view
        ids = {"request_id": view.request_id, "generation_id": view.id, "account_id": view.account_id}
        spent = self._traced(lease)
        # Tasks take the context along that they are made in: every line about this lease has its ids.
        with correlation(**ids), hiding(view.prompt), spent.entered():
            run = Run(lease, execution, lease_until)
            self._runs[run] = None
            attending = asyncio.create_task(self._attend(run, spent))
        self._attending[attending] = run
        attending.add_done_callback(self._attended)

    def _traced(self, lease: Lease) -> OpenSpan:
        """The call's trace goes on: what was waited until now, and what this attempt takes."""
        view = lease.view
        self._tracing.begin("queue", view.traceparent, at=view.available_at, tier=view.tier).end()
        return self._tracing.begin(
            "generation",
            view.traceparent,
            "consumer",
            generation_id=view.id,
            request_id=view.request_id,
            model=view.model_id,
            mode=view.mode,
            attempt=lease.attempt,
        )

    # ---------------------------------------------------------------------------------------- one of them
    async def _attend(self, run: Run, spent: OpenSpan) -> None:
        """From the lease to the last transaction, and to whoever listens. Its slots are free before the latter."""
        try:
            view = run.lease.view
            await asyncio.gather(run.until_done(), self._feed.state_changed(view.id, view.version))
            self._telling.log_end(run)
            change = await self._settle(run)
        finally:
            await run.abandon()
            error = run.error
            spent.end(None if error is None else type(error).__name__, outcome=run.reason or "ended")
            self._runs.pop(run)
            self._look.set()
        await self._telling.settled(run, change)

    def _attended(self, attending: asyncio.Task[None]) -> None:
        run = self._attending.pop(attending)
        if not attending.cancelled() and (error := attending.exception()) is not None:
            # Its lease ends by itself, and the generation is tried again.
            self._log.error("attempt_broke", generation_id=run.lease.generation_id, exc_info=error)

    async def _settle(self, run: Run) -> Change | None:
        """Until it is written down, or the lease has run out and it is somebody else's to do."""
        loop = asyncio.get_running_loop()
        written, change = run.reason == "lost", None
        while not written and loop.time() < run.lease_until:
            async with self._patience.waiting("result_waits_for_the_database"):
                async with self._db.begin() as conn:
                    change = await run.settle(conn, self._clock())
                written = True
            if not written:
                await asyncio.sleep(self._timing.retry_s)
        return change if written else None

    async def _listen(self, channel: str, event: asyncio.Event) -> None:
        async with self._bus.subscribe(channel) as subscription:
            while True:
                await subscription.get(doorbells.PATIENCE_S)
                event.set()

    # ----------------------------------------------------------------------------------------------- the end
    async def _drain(self) -> None:
        """Let them end; when their time is up, give them back."""
        if self._attending:
            await asyncio.wait(set(self._attending), timeout=self._timing.drain_s)
        for run in self._runs:
            run.stop("shutdown")
        if self._attending:
            await asyncio.wait(set(self._attending))

    async def _abandon(self) -> None:
        """End everything and write nothing."""
        attending = dict(self._attending)
        try:
            await stop(*attending)
        finally:
            await stop(*(run.work for run in attending.values()))  # of those that had not been attended to yet
