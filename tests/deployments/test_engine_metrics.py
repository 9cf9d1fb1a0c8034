"""From an engine's statistics to increments and gauges, and from a real replica to its port."""

from __future__ import annotations

import uuid
from pathlib import Path

import httpx2
import pytest

from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.telemetry.catalogue import ENGINE_PLANE
from api.telemetry.discovery import Targets
from deployments.engine_metrics import EngineMeter, StartTimes
from deployments.generator import MusicGenerator
from models.engine.stats import EngineStats
from models.types import GenerationRequest
from tests.api.streams.stage import eventually

IDLE = dict.fromkeys(EngineStats.__dataclass_fields__, 0) | {"max_rows": 16, "free_rows": 16, "free_kv_positions": 1000}


class Machine:
    """An engine's statistics and the time, as a test sets them."""

    def __init__(self) -> None:
        self.now = 50.0
        self.values = dict(IDLE)

    def stats(self) -> EngineStats:
        return EngineStats(**self.values)

    def work(self, steps: int, rows: int, step_s: float, seconds: float) -> None:
        """So many steps within so many seconds; each row is half of a guided track at 50 frames a second."""
        self.now += seconds
        self.values["steps"] += steps
        self.values["row_steps"] += steps * rows
        self.values["step_seconds"] += steps * step_s  # type: ignore[assignment]
        self.values["decode"] += steps * step_s  # type: ignore[assignment]
        self.values["audio_seconds"] += steps * rows / 2 / 50  # type: ignore[assignment]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def meter(machine: Machine) -> EngineMeter:
    return EngineMeter(machine.stats, {"import": 2.0, "decoder": 1.0}, clock=lambda: machine.now)


def test_counters_grow_by_what_was_done_since(machine: Machine, meter: EngineMeter) -> None:
    machine.work(steps=10, rows=4, step_s=0.02, seconds=1.0)
    counters, _ = meter.read()
    assert counters["tutti_engine_steps_total"] == {"": 10}
    assert counters["tutti_engine_row_steps_total"] == {"": 40}
    assert counters["tutti_engine_step_seconds_total"][""] == pytest.approx(0.2)
    assert counters["tutti_engine_idle_seconds_total"][""] == pytest.approx(0.8)
    assert counters["tutti_engine_audio_generated_seconds_total"][""] == pytest.approx(0.4)
    stages = counters["tutti_engine_stage_seconds_total"]
    assert stages == {"text_encode": 0, "decode": pytest.approx(0.2), "codec": 0, "host": 0}
    machine.now += 1.0
    counters, _ = meter.read()
    assert counters["tutti_engine_steps_total"] == {"": 0}
    assert counters["tutti_engine_idle_seconds_total"] == {"": 1.0}


def test_gauges_are_what_is(machine: Machine, meter: EngineMeter) -> None:
    machine.values |= {"active_rows": 6, "paused_rows": 2, "free_rows": 8, "free_kv_positions": 250}
    _, gauges = meter.read()
    assert gauges["tutti_engine_rows"] == {"active": 6, "paused": 2, "free": 8}
    assert gauges["tutti_engine_kv_utilization_ratio"] == {"": 0.75}
    assert gauges["tutti_replica_startup_seconds"] == {"import": 2.0, "decoder": 1.0}
    assert gauges["tutti_engine_capacity_audio_seconds_per_second"] == {"": 0.0}


def test_capacity_is_that_of_a_full_step(machine: Machine, meter: EngineMeter) -> None:
    """A step of n rows takes 10 ms and 1 ms a row: 26 ms with 16 rows, which are 8 guided tracks of 20 ms of audio."""
    gauges: dict[str, dict[str, float]] = {}
    for rows in [4, 8] * 200:
        machine.work(steps=20, rows=rows, step_s=0.010 + 0.001 * rows, seconds=1.0)
        _, gauges = meter.read()
    capacity = gauges["tutti_engine_capacity_audio_seconds_per_second"][""]
    assert capacity == pytest.approx(8 * 0.020 / 0.026, rel=0.05)


def test_the_stages_of_a_start_are_the_whole_of_it(machine: Machine) -> None:
    start = StartTimes(clock=lambda: machine.now, spent=lambda: 1.5)
    for stage, seconds in (("import", 2.0), ("decoder", 0.5), ("import", 0.25)):
        machine.now += seconds
        start.done(stage)
    assert start.stages == {"process": 1.5, "import": 2.25, "decoder": 0.5}
    assert start.total_s == 4.25


def test_every_metric_of_the_plane_is_told(meter: EngineMeter) -> None:
    counters, gauges = meter.read()
    of_the_queue = {"tutti_engine_backlog_audio_seconds"}  # which workers tell
    assert counters.keys() | gauges.keys() == {each.name for each in ENGINE_PLANE} - of_the_queue
    for each in ENGINE_PLANE:
        told = (counters | gauges).get(each.name, {})
        second = each.labels[1] if len(each.labels) > 1 else None
        assert set(told) <= set(each.allowed(second) or ()) if second else set(told) == {""}


async def test_a_replica_shows_what_it_made(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedValkey() as valkey:
        monkeypatch.setenv("TUTTI_REDIS_URL", valkey.url)
        replica = MusicGenerator("tiny", str(checkpoint), {"max_rows": 4, "num_threads": 1})
        cache = Cache.connect(valkey.url)
        try:
            made = [chunk async for chunk in replica.generate(GenerationRequest(uuid.uuid4().hex, "a tune", 1.0))]
            seconds = sum(chunk.duration_s for chunk in made)
            wanted = f'tutti_engine_audio_generated_seconds_total{{model="tiny"}} {seconds:.1f}'

            async def is_shown() -> bool:
                listed = await Targets(cache).all()
                texts = [
                    httpx2.get(f"http://{each.address}/metrics", trust_env=False, timeout=30.0).text for each in listed
                ]
                return any(wanted in text for text in texts)

            await eventually(is_shown)
        finally:
            replica.__del__()
            assert await Targets(cache).all() == []
            await cache.close()
