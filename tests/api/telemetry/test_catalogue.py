"""The catalogue itself, and the registries that are made from it."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.clock import utc_now
from api.limits.tiers import Tiers
from api.telemetry.catalogue import CATALOGUE, ENGINE_PLANE, SLIS, TIERS, Metric, metric
from api.telemetry.compose import make_telemetry, objectives
from api.telemetry.recorder import PLANES, Role, Subject
from api.telemetry.registry import Registry, tier_label
from dashboards.objectives import load_objectives

IDENTITY = {"tenant", "account", "account_id", "user", "key", "generation", "generation_id", "request_id", "prompt"}


def test_names_are_of_one_kind() -> None:
    assert len({each.name for each in CATALOGUE}) == len(CATALOGUE)
    for each in CATALOGUE:
        assert re.fullmatch(r"tutti_[a-z_]+", each.name)
        assert each.name.endswith("_total") == (each.kind == "counter"), each.name


@pytest.mark.parametrize("each", CATALOGUE, ids=lambda each: each.name)
def test_no_label_is_a_tenant_s_and_buckets_ascend(each: Metric) -> None:
    assert not IDENTITY & set(each.labels)
    assert list(each.buckets) == sorted(set(each.buckets))
    assert bool(each.buckets) == (each.kind == "histogram")
    assert set(each.values) <= set(each.labels)


def test_series_are_what_queries_may_name() -> None:
    assert metric("tutti_requests_total").series == {"tutti_requests_total"}
    name = "tutti_time_to_first_audio_seconds"
    assert metric(name).series == {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    slack = "tutti_stream_min_slack_seconds"
    assert metric(slack).series == {f"{slack}_bucket", f"{slack}_count"}
    with pytest.raises(KeyError):
        metric("tutti_nothing")


@pytest.mark.parametrize("role", ["ingress", "worker", "engine", "controller"])
def test_a_registry_has_its_planes_and_nothing_else(role: Role) -> None:
    registry = Registry(PLANES[role])
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(registry.render()[0].decode())
        if family.name.startswith("tutti_")
    }
    assert families == {each.name for each in CATALOGUE if each.plane in PLANES[role]}


def test_what_a_process_does_not_count_is_no_metric_of_it() -> None:
    with pytest.raises(KeyError):
        Registry(["sli"]).counter(ENGINE_PLANE[0].name)


def test_every_promise_is_told() -> None:
    text = make_telemetry("worker", utc_now).registry.render()[0].decode()
    for sli in SLIS:
        for tier in TIERS:
            assert f'sli="{sli}",threshold="' in text
            assert objectives().objective(sli, tier) > 0.9
    assert text.count("tutti_slo_info{") == len(SLIS) * len(TIERS)


@pytest.mark.parametrize("tier", TIERS)
def test_queue_and_service_level_promise_the_same_deadline(tier: str) -> None:
    """A job's deadline is its tier's in the queue; slo.yaml tells people and alerts of it."""
    rule = Tiers.load()[tier]
    for duration_s in (1.0, 30.0):
        assert rule.deadline_s(duration_s) == load_objectives().deadline(tier, duration_s)


def test_labels_are_closed() -> None:
    assert tier_label("pro") == "pro"
    assert tier_label("made up by an operator") == tier_label(None) == "free"
    assert Subject.of(None, None, "stream") == Subject("unknown", "free", "stream")
