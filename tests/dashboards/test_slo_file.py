"""``slo.yaml`` and its reader: what is promised, and that a broken file says where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.limits.tiers import Tiers
from api.telemetry.catalogue import SLIS, TIERS
from dashboards.document import SloFileError
from dashboards.durations import duration, seconds
from dashboards.objectives import load_objectives
from dashboards.openslo import SLO_FILE, load_specification

Documents = list[dict[str, Any]]


def test_what_is_promised() -> None:
    promised = load_objectives()
    assert promised.slis == SLIS
    assert promised.tiers == tuple(reversed(TIERS)) == ("enterprise", "pro", "free")
    assert promised.window == "30d"
    assert [promised.threshold("ttfa", tier) for tier in promised.tiers] == [1.0, 2.5, 10.0]
    assert [promised.threshold("continuity", tier) for tier in promised.tiers] == [0.05, 0.25, 1.0]
    assert promised.threshold("success", "pro") is None
    assert promised.threshold("deadline", "pro") is None
    assert promised.deadline("pro", 10) == 50
    assert promised.objective("admission", "free") == 0.95
    with pytest.raises(KeyError):
        promised.objective("success", "gold")


def test_higher_tiers_are_promised_no_less() -> None:
    promised = load_objectives()
    for higher, lower in zip(promised.tiers, promised.tiers[1:], strict=False):
        for sli in promised.slis:
            assert promised.objective(sli, higher) >= promised.objective(sli, lower)
            assert (promised.threshold(sli, higher) or 0) <= (promised.threshold(sli, lower) or 0)
        assert promised.deadline(higher, 30) < promised.deadline(lower, 30)


def test_deadlines_are_those_by_which_the_platform_schedules() -> None:
    promised = load_objectives()
    tiers = Tiers.load().tiers
    assert set(promised.tiers) == set(tiers)
    for name, tier in tiers.items():
        assert promised.deadlines[name] == (tier.deadline.c0_s, tier.deadline.c1)


def _slo(documents: Documents, name: str = "ttfa-pro") -> dict[str, Any]:
    return next(each for each in documents if each["metadata"]["name"] == name)


def _drop_objective(documents: Documents) -> None:
    del _slo(documents)["spec"]["objectives"][0]["target"]


def _drop_slo(documents: Documents) -> None:
    documents.remove(_slo(documents))


def _drop_slos(documents: Documents) -> None:
    documents[:] = [each for each in documents if each["kind"] != "SLO"]


def _drop_service(documents: Documents) -> None:
    documents.pop(0)


def _set(value: object, *path: str | int, name: str = "ttfa-pro") -> Callable[[Documents], None]:
    def change(documents: Documents) -> None:
        found: Any = _slo(documents, name)
        for step in path[:-1]:
            found = found[step]
        found[path[-1]] = value

    return change


TARGET = ("spec", "objectives", 0, "target")
ANNOTATIONS = ("metadata", "annotations")
BAD = ("spec", "indicator", "spec", "ratioMetric", "bad", "metricSource", "spec", "query")
BURN = ("spec", "conditions", 0, "spec")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop_objective, "(SLO ttfa-pro): spec.objectives[0].target: is missing"),
        (_drop_slo, "exactly one SLO with sli ttfa and tier pro, not 0"),
        (_drop_slos, "no document of kind SLO"),
        (_drop_service, "exactly one document of kind Service, not 0"),
        (_set("v2", "apiVersion"), "apiVersion: must be one of openslo/v1, not 'v2'"),
        (_set("Slo", "kind"), "kind: must be one of Service"),
        (_set({}, "status"), "status: unknown field"),
        (_set("Not RFC", "metadata", "name"), "RFC 1123"),
        (_set(99, *TARGET), "(0.99 is 99 %)"),
        (_set("many", *TARGET), "must be a finite number"),
        (_set(True, *TARGET), "must be a finite number"),
        (_set(None, *TARGET), "must be a number"),
        (_set([], "spec", "objectives"), "spec.objectives: must be a list of mappings, and not empty"),
        (_set([{"target": 0.9}] * 2, "spec", "objectives"), "must have exactly one item, not 2"),
        (_set({"tutti.slo/treshold-seconds": "1"}, *ANNOTATIONS), "unknown field"),
        (_set({"tutti.slo/threshold-seconds": "-1"}, *ANNOTATIONS), "must be above 0, not -1"),
        (_set({"tutti.slo/threshold-seconds": "fast"}, *ANNOTATIONS), "must be a finite number"),
        (_set({"tutti.slo/calibration": "done"}, *ANNOTATIONS), "must be one of provisional"),
        (_set({"tutti.slo/calibration": "provisional"}, *ANNOTATIONS), "the same kinds of annotations"),
        (_set({"tutti.slo/deadline-base-seconds": "10"}, *ANNOTATIONS), "deadline-per-audio-second: is missing"),
        (_set("other", "spec", "service"), "spec.service: must be one of tutti"),
        (_set("Timeslices", "spec", "budgetingMethod"), "must be one of Occurrences"),
        (_set(" ", "spec", "description"), "must not be blank"),
        (_set("rate(x[5m])", *BAD), "must read sum(increase("),
        (_set('sum(increase(x{sli="success",tier="pro"}[{{.window}}]))', *BAD), 'sli="ttfa"'),
        (_set("Pro", "metadata", "labels", "tier"), "must be lowercase"),
        (_set("30 days", "spec", "timeWindow", 0, "duration"), "such as 5m, 1h or 30d"),
        (_set("7d", "spec", "timeWindow", 0, "duration"), "has the window 7d"),
        (_set(False, "spec", "timeWindow", 0, "isRolling"), "calendar windows are not supported"),
        (_set([{"alertPolicyRef": "none"}], "spec", "alertPolicies"), "must be one of page-fast"),
        (_set("siren", *BURN, "severity", name="page-fast"), "must be one of page, ticket"),
        (_set(0, *BURN, "condition", "threshold", name="page-fast"), "must be above 0"),
        (_set({"tutti.slo/minimum-bad-events": "0.5"}, *ANNOTATIONS, name="page-fast"), "a whole number from 1"),
        (_set("2h", *ANNOTATIONS, "tutti.slo/short-window", name="page-fast"), "must be shorter than 1h"),
    ],
)
def test_a_broken_file_says_where(change: Callable[[Documents], None], words: str, tmp_path: Path) -> None:
    documents: Documents = list(yaml.safe_load_all(SLO_FILE.read_text()))
    change(documents)
    broken = tmp_path / "slo.yaml"
    broken.write_text(yaml.safe_dump_all(documents))
    with pytest.raises(SloFileError) as raised:
        load_specification(broken)
    assert words in str(raised.value)
    assert str(raised.value).startswith(f"{broken}: ")


def test_without_deadlines_there_is_nothing_to_hold_jobs_to(tmp_path: Path) -> None:
    documents: Documents = list(yaml.safe_load_all(SLO_FILE.read_text()))
    kept = [each for each in documents if each["metadata"].get("labels", {}).get("sli") != "deadline"]
    (tmp_path / "slo.yaml").write_text(yaml.safe_dump_all(kept))
    with pytest.raises(SloFileError, match="jobs have no deadline"):
        load_specification(tmp_path / "slo.yaml")


@pytest.mark.parametrize(
    ("text", "words"), [("[1, 2]", "must be a mapping"), ("a: [", "is no YAML"), ("a: 1\na: 2", "twice")]
)
def test_files_that_are_no_documents(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text(text)
    with pytest.raises(SloFileError, match=words):
        load_specification(tmp_path / "slo.yaml")


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SloFileError, match="cannot be read"):
        load_objectives(tmp_path / "none.yaml")


def test_durations() -> None:
    assert [seconds(each) for each in ("500ms", "5m", "1h", "30d", "2w")] == [0.5, 300, 3600, 2_592_000, 1_209_600]
    assert [duration(each) for each in (0.5, 7.5, 5, 60, 5400, 86_400)] == ["500ms", "7500ms", "5s", "1m", "90m", "1d"]
    for wrong in ("0m", "1.5h", "h", "1M", "5m "):
        with pytest.raises(ValueError, match="such as"):
            seconds(wrong)
    with pytest.raises(ValueError, match="shorter than"):
        duration(0.0001)
