"""What the autoscaler sees and decides, from its process to Prometheus, to gateways and to workers."""

from __future__ import annotations

import httpx2

from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.clock import utc_now
from api.generations.starts import Starts
from api.telemetry.control import ControlExposure
from api.telemetry.discovery import Target, Targets
from api.telemetry.exposure import MetricsSettings
from deployments.demand_metrics import DecisionMeter, Standing
from tests.api.streams.stage import eventually


async def test_decisions_are_shown_and_those_who_wait_hear_of_starts(valkey: EmbeddedValkey, cache: Cache) -> None:
    listing = Cache.connect(valkey.url)  # as the platform sees it; ``cache`` flushed it
    targets, starts = Targets(listing), Starts(listing, utc_now)
    await targets.announce(Target("engine", "r1", "127.0.0.1:1"))
    meter = DecisionMeter()
    now = utc_now().timestamp()
    meter.look({"tiny": Standing(1, frozenset({"r1"}), 0, 0)}, now)
    asleep = Standing(0, frozenset(), 0, 0, serves_in_s=12.0)
    growing = Standing(3, frozenset({"r2"}), 0, 2, due=((now + 300.0, 2),))
    meter.look({"tiny": asleep, "small": growing}, now + 1)
    meter.decided("tiny", {"base": 0.25}, "down", "demand", changed=True)
    control = ControlExposure(meter, MetricsSettings(redis_url=valkey.url))
    control.start()

    async def heard() -> bool:
        await starts.refresh()
        return starts.of("tiny").in_s == 12.0 and [each.replicas for each in starts.starting("small")] == [2]

    try:
        await eventually(heard)
        [target] = [each for each in await targets.all() if each.role == "controller"]
        control.look()
        text = httpx2.get(f"http://{target.address}/metrics", trust_env=False).text
    finally:
        control.close()
        control.close()
    assert 'tutti_autoscaler_decisions_total{action="down",model="tiny",reason="demand"} 1.0' in text
    assert 'tutti_autoscaler_decisions_total{action="up",model="tiny",reason="backlog"} 0.0' in text
    assert 'tutti_autoscaler_demand_replicas{component="base",model="tiny"} 0.25' in text
    assert 'tutti_autoscaler_replicas{model="tiny",state="draining"} 1.0' in text  # r1 ends its streams
    assert not [each for each in await targets.all() if each.role == "controller"]
    await listing.close()


async def test_without_a_cache_or_while_it_is_away_nothing_breaks(cache: Cache) -> None:
    for settings in (MetricsSettings(redis_url=None), MetricsSettings(redis_url="redis://127.0.0.1:1")):
        meter = DecisionMeter()
        control = ControlExposure(meter, settings)
        control.start()
        meter.look({"tiny": Standing(1, frozenset(), 0, 1)}, 100.0)
        control.look()
        assert 'tutti_autoscaler_replicas{model="tiny",state="starting"} 1.0' in control.registry.render()[0].decode()
        control.close()
