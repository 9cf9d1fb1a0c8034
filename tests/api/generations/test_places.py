"""A worker has as many tracks made at once as the replicas that are ready take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from api.generations.places import ReadyPlaces
from autoscaling.fairness import Places, Slots
from models.errors import ReplicaLostError
from models.types import AudioChunk, GenerationRequest
from tests.api.fakes import FakeGenerator
from tests.api.generations.conftest import QUICK, Bench, eventually


class Counted(FakeGenerator):
    """Says how many there are of it; an error is raised. Counts how many generations it makes at once, at most."""

    answer: int | Exception = 1
    making: int = 0
    most: int = 0

    async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        self.making += 1
        self.most = max(self.most, self.making)
        try:
            async for chunk in super().generate(request):
                yield chunk
        finally:
            self.making -= 1

    async def replicas(self) -> int:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_as_many_as_the_ready_replicas_take() -> None:
    backend, told = Counted(), asyncio.Queue[str]()
    places = ReadyPlaces({"tiny": 25, "small": 7}, {"tiny": Places(10, 2)}, {"tiny": backend, "small": Counted()})
    following = asyncio.create_task(places.follow(0.0, told.put_nowait))
    try:
        assert await told.get() == "tiny"
        assert places.slots("tiny", 4) == Slots(10, 6, 2)
        assert places.slots("small", 4) == Slots(7, 3)
        for replicas, slots in ((2, Slots(20, 16, 4)), (3, Slots(25, 21, 6)), (1, Slots(10, 6, 2))):
            backend.answer = replicas
            assert await told.get() == "tiny"
            assert places.slots("tiny", 4) == slots
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_what_nobody_can_tell_changes_nothing() -> None:
    """Nor do replicas that are all asleep: what is leased wakes one up."""
    backend = Counted()
    places = ReadyPlaces({"tiny": 100}, {"tiny": Places(10)}, {"tiny": backend})
    for answer in (3, 0, ReplicaLostError("the controller is away"), TimeoutError()):
        backend.answer = answer
        await places._look("tiny")
        assert places.slots("tiny", 0) == Slots(30, 30)


async def test_the_rest_waits_in_the_queue_until_a_replica_more_is_ready(bench: Bench) -> None:
    backend = Counted()
    gate = backend.hold(0)
    bench.generators["tiny"] = backend
    owner = await bench.account("enterprise")
    made = [await bench.create(owner) for _ in range(3)]
    timing = replace(QUICK, replicas_s=0.02)
    async with bench.working(per_replica={"tiny": Places(1)}, timing=timing) as worker:
        await eventually(lambda: backend.started == 1)
        assert worker.running == 1
        backend.answer = 2
        await eventually(lambda: backend.started == 2)
        assert worker._throughput.as_capacity()["tiny"]["slots"] == 2
        assert worker.running == 2
        gate.set()
        for view in made:
            assert (await bench.until(view.id)).state == "succeeded"


async def test_two_workers_share_the_places_of_the_replicas(bench: Bench) -> None:
    """Three places: both together never have more made at once, and that many while more wait."""
    backend = Counted()
    gate = backend.hold(0)
    bench.generators["tiny"] = backend
    owner = await bench.account("enterprise")
    made = [await bench.create(owner) for _ in range(8)]
    async with (
        bench.working(per_replica={"tiny": Places(3)}) as first,
        bench.working(per_replica={"tiny": Places(3)}) as second,
    ):
        await eventually(lambda: backend.started == 3)
        for worker in (first, second):
            worker._look.set()
        assert first.running + second.running == 3
        gate.set()
        for view in made:
            assert (await bench.until(view.id)).state == "succeeded"
    assert backend.most == 3
