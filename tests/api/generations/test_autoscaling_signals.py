"""What gateways and workers tell the autoscaler: what was asked for, and what waits."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from api.errors import ApiError, ErrorCode
from api.generations.arrivals import FIELDS
from api.generations.view import CreateGeneration
from api.generations.waiting import WaitingWork
from api.store.schema import generations
from api.telemetry.backlog import GAUGE, BacklogGauge
from api.telemetry.catalogue import TIERS
from api.telemetry.registry import Registry
from autoscaling.fairness import Slots
from tests.api.generations.conftest import Bench, MakeBench, ManualClock
from tests.api.generations.test_leases import take

IDLE = {"tiny": 0.0, "small": 0.0}


@pytest.fixture
def still(make_bench: MakeBench, manual_clock: ManualClock) -> Bench:
    return make_bench(manual_clock)


@pytest.fixture
def waiting(still: Bench) -> WaitingWork:
    return WaitingWork(still.db, still.limits.tiers, still.clock)


def arrived_s(bench: Bench, model: str = "tiny") -> float:
    """Audio-seconds, all told: less than 20 s have passed."""
    return bench.service.arrivals.stats()[f"{model}:short_s"]


async def test_what_is_accepted_has_arrived_once(still: Bench) -> None:
    owner = await still.account()
    assert set(still.service.arrivals.stats()) == {f"{model}:{field}" for model in IDLE for field in FIELDS}
    await still.create(owner, duration_s=6.0, num_tracks=2)
    assert (arrived_s(still), arrived_s(still, "small")) == (12.0, 0.0)


async def test_a_repeated_call_is_no_second_arrival(still: Bench) -> None:
    owner = await still.account()
    for _ in range(2):
        await still.service.create(
            owner,
            CreateGeneration("a tune", duration_s=4.0),
            idempotency_key="same",
            request_hash="hash",
            request_id="req_1",
        )
    assert arrived_s(still) == 4.0


async def test_what_its_own_limits_refuse_has_not_arrived(still: Bench) -> None:
    owner = await still.account("free")
    await still.create(owner, mode="stream")
    with pytest.raises(ApiError, match="streamed at once"):
        await still.create(owner, mode="stream")
    assert arrived_s(still) == 1.0


async def test_what_there_is_no_room_for_has_arrived(still: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.limits.admission.BLIND_QUEUE", 1)
    await still.create(await still.account())
    with pytest.raises(ApiError) as refused:
        await still.create(await still.account(), duration_s=9.0)
    assert refused.value.code == ErrorCode.SYSTEM_OVERLOADED
    assert arrived_s(still) == 1.0 + 9.0


async def test_nothing_is_told_before_the_first_look(waiting: WaitingWork) -> None:
    assert waiting.stats(IDLE) == {}


async def test_what_waits_by_model_and_mode(still: Bench, waiting: WaitingWork, manual_clock: ManualClock) -> None:
    owner = await still.account()
    await still.create(owner, duration_s=6.0, mode="stream")
    first = await still.create(owner, duration_s=5.0, num_tracks=2)
    await still.create(owner, duration_s=20.0)
    await waiting.look()
    manual_clock.forward(3.0)
    stats = waiting.stats(IDLE)
    assert stats["looked_s_ago"] == 3.0
    assert (stats["tiny:queued"], stats["tiny:stream_s"], stats["tiny:job_s"]) == (3.0, 6.0, 30.0)
    tier = still.limits.tiers.tiers["pro"]
    assert stats["tiny:job_due_s"] == pytest.approx(tier.deadline_s(5.0)), first
    assert stats["small:queued"] == stats["small:job_s"] == 0.0
    assert all(type(value) is float for value in stats.values())


async def test_what_its_own_limit_holds_back_waits_for_no_replica(still: Bench, waiting: WaitingWork) -> None:
    """One at a time: of three, a third; and of two behind one that runs, nothing."""
    owner = await still.account("free")
    for _ in range(3):
        await still.create(owner, duration_s=10.0)
    await waiting.look()
    assert waiting.stats(IDLE)["tiny:job_s"] == pytest.approx(10.0)
    assert len(await take(still)) == 1
    await waiting.look()
    stats = waiting.stats(IDLE)
    assert (stats["tiny:queued"], stats["tiny:job_s"]) == (0.0, 0.0)


async def test_what_was_sent_is_listened_to_as_what_is_held(still: Bench, waiting: WaitingWork) -> None:
    owner = await still.account()
    await still.create(owner, duration_s=10.0, mode="stream")
    await still.create(owner, duration_s=30.0)
    assert len(await take(still, slots=Slots(10, 10))) == 2
    await waiting.look()
    stats = waiting.stats({"tiny": 20.0})
    assert (stats["tiny:sent_stream_s"], stats["tiny:sent_job_s"]) == (5.0, 15.0)
    assert stats["tiny:sent_job_due_s"] == pytest.approx(still.limits.tiers.tiers["pro"].deadline_s(30.0))
    assert waiting.stats({"small": 20.0})["small:sent_stream_s"] == 20.0  # sent since the look: somebody listens


async def test_what_has_expired_waits_no_more(still: Bench, waiting: WaitingWork) -> None:
    made = await still.create(await still.account())
    await still.expire_now(made.id)
    await waiting.look()
    assert waiting.stats(IDLE)["tiny:queued"] == 0.0


async def test_a_tier_that_is_gone_has_no_limit(still: Bench, waiting: WaitingWork) -> None:
    owner = await still.account("free")
    for _ in range(3):
        await still.create(owner, duration_s=10.0)
    async with still.db.begin() as conn:
        await conn.execute(update(generations).values(tier="gold"))
    await waiting.look()
    assert waiting.stats(IDLE)["tiny:job_s"] == 30.0


async def test_the_gauges_of_the_backlog_are_of_the_same_look(still: Bench) -> None:
    registry = Registry(["sli"], [GAUGE])
    backlog = BacklogGauge(registry, ["tiny", "small"])
    waiting = WaitingWork(still.db, still.limits.tiers, still.clock, backlog.show)

    def shown() -> dict[tuple[str, str, str], float]:
        (family,) = registry.gauge(GAUGE).collect()
        labels = [(each.labels["model"], each.labels["tier"], each.labels["state"]) for each in family.samples]
        found = dict(zip(labels, (each.value for each in family.samples), strict=True))
        assert len(found) == 2 * len(TIERS) * 2
        return {series: audio_s for series, audio_s in found.items() if audio_s}

    await still.create(await still.account("free"), duration_s=4.0)
    await waiting.look()
    assert shown() == {("tiny", "free", "queued"): 4.0}
    assert len(await take(still)) == 1
    owner = await still.account()
    late = await still.create(owner, duration_s=5.0, num_tracks=2)
    await still.create(owner, duration_s=6.0, mode="stream")
    await waiting.look()
    assert shown() == {("tiny", "free", "running"): 4.0, ("tiny", "pro", "queued"): 16.0}
    await still.expire_now(late.id)
    await waiting.look()
    assert shown() == {("tiny", "free", "running"): 4.0, ("tiny", "pro", "queued"): 6.0}
