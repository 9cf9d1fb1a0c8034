"""Series that begin at 0, so that the first of something is seen to happen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.telemetry.catalogue import CATALOGUE, SLIS, TIERS
from api.telemetry.compose import make_telemetry
from api.telemetry.recorder import Role
from api.telemetry.zeros import begin_at_zero


def samples(role: Role) -> dict[str, list[dict[str, str]]]:
    """Name → labels of every series of a fresh process with one model, all of which must be 0."""
    telemetry = make_telemetry(role, lambda: datetime.now(UTC))
    begin_at_zero(telemetry.registry, ["tiny"])
    text = telemetry.registry.render()[0].decode()
    told: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("tutti_") and not sample.name.endswith("_info"):
                assert sample.value == 0, sample
                told.setdefault(sample.name, []).append(sample.labels)
    return told


@pytest.mark.parametrize("role", ["ingress", "worker"])
def test_every_service_level_has_its_bad_events_before_there_are_any(role: Role) -> None:
    bad = [labels for labels in samples(role)["tutti_sli_events_total"] if labels["result"] == "bad"]
    served = {(labels["sli"], labels["tier"]) for labels in bad if labels["model"] == "tiny"}
    assert served == {(sli, tier) for sli in SLIS for tier in TIERS}
    assert {labels["mode"] for labels in bad if labels["sli"] in ("ttfa", "continuity")} == {"stream"}
    assert {labels["sli"] for labels in bad if labels["model"] == "unknown"} == {"admission"}


def test_what_nobody_can_know_beforehand_is_not_made_up() -> None:
    told = samples("ingress")
    assert "tutti_http_requests_total" not in told
    decisions = {(labels["decision"], labels["reason"]) for labels in told["tutti_admission_decisions_total"]}
    assert ("accepted", "none") in decisions
    assert ("rejected", "capacity") in decisions
    assert ("accepted", "capacity") not in decisions
    listed = {metric.name: metric for metric in CATALOGUE}
    for name, series in told.items():
        assert all(set(labels) == set(listed[name].labels) for labels in series)


async def test_a_platform_that_nobody_has_asked_tells_all_of_it(
    make_platform: Callable[..., Awaitable[Any]],
) -> None:
    client = await (await make_platform()).connect(host="127.0.0.1", base_url="http://localhost")
    text = (await client.get("/metrics")).text
    assert 'tutti_requests_total{mode="stream",model="tiny",outcome="failed",tier="pro"} 0.0' in text
    assert 'tutti_listeners{kind="sse"} 0.0' in text
