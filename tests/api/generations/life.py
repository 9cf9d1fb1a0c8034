"""One generation to which anything is done that callers may try, legal or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from api.auth.principal import Principal
from api.generations import states
from api.generations.states import Change, Lease
from tests.api.generations.conftest import Bench, MakeBench, ManualClock

ERROR = {"code": "replica_lost", "message": "gone"}
ACTIONS = (
    "start", "requeue", "give_back", "expire", "succeed", "fail", "cancel", "cancelled", "reap", "reap_for_good",
    "old_succeed", "old_requeue", "old_fail", "old_cancelled", "pass_lease", "pass_expiry",
)  # fmt: skip


@dataclass
class Life:
    """One generation, its leases so far, and what is done to it."""

    bench: Bench
    clock: ManualClock
    owner: Principal
    id: str
    leases: list[Lease] = field(default_factory=list)

    async def do(self, action: str) -> Change | Lease | None:
        if action.startswith("pass_"):
            self.clock.forward({"pass_lease": 11.0, "pass_expiry": 10_000.0}[action])
            return None
        async with self.bench.db.begin() as conn:
            if action in ("start", "expire", "cancel") or action.startswith("reap"):
                done = await self._by_anybody(conn, action)
            else:
                done = await self._by_holder(conn, action)
        if isinstance(done, Lease):
            self.leases.append(done)
        return done

    async def _by_anybody(self, conn: Any, action: str) -> Change | Lease | None:
        account, now = self.owner.account_id, self.clock()
        if action == "start":
            return await states.start(conn, self.id, account, "wrk_1", now, charge_s=4.0)  # one worker, again and again
        if action == "expire":
            return await states.expire(conn, self.id, account, now)
        if action == "cancel":
            return await states.request_cancel(conn, self.id, account, now)
        return await states.reap(conn, self.id, account, ERROR, now, refund_s=4.0, retry=action == "reap")

    async def _by_holder(self, conn: Any, action: str) -> Change | None:
        old, name = action.startswith("old_"), action.removeprefix("old_")
        held = self.leases[:-1] if old else self.leases
        if not held:
            return None
        lease, now = held[-1], self.clock()
        if name == "succeed":
            audio = {track.id: {"object_key": f"{track.id}-{lease.fence}"} for track in lease.view.tracks}
            return await states.succeed(conn, lease, audio, now, first_audio_at=now, real_time_factor=2.0)
        if name == "fail":
            return await states.fail(conn, lease, ERROR, now, unmade=0.25)
        if name == "cancelled":
            return await states.cancelled(conn, lease, now, unmade=0.5)
        error = None if name == "give_back" else ERROR
        return await states.requeue(conn, lease, error, now, counts=name == "requeue", unmade=0.25)


async def live(make_bench: MakeBench, clock: ManualClock) -> Life:
    bench = make_bench(clock)
    owner = await bench.account()
    return Life(bench, clock, owner, (await bench.create(owner, num_tracks=2)).id)
