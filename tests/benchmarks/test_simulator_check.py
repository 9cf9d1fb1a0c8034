"""The check of the simulator against the platform: that it would see a difference, and finds the engine's rates."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from autoscaling.simulator.cluster import Cluster
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.rivals import Fixed
from benchmarks.serve_load.plan import Schedule
from benchmarks.simulator_check import quota
from benchmarks.simulator_check.__main__ import Run, main
from benchmarks.simulator_check.compare import Before, Seen, holds, lines, promises, requests_of, simulated, table
from benchmarks.simulator_check.fit import FitError, beside_start, latency_s, profile_of, shared_rate
from benchmarks.simulator_check.observed import Change, Track, Watch, changes, replica_s, tracks
from benchmarks.simulator_check.quota import CpuQuota, QuotaError
from benchmarks.simulator_check.scenario import Scenario
from deployments.platform import DEFAULT_CONFIG
from deployments.serve_config import load_config

PROFILE = Profile(2, 0.0007, 0.0005, 0.6, 0.03, gpu=0.0, cold_start_s=9.0)
SCENARIO = Scenario(0.5, 2.0, 20.0, calm_s=20, crowd_s=40, after_s=30)
ACCOUNTS = 5
KEPT = Path(__file__).parents[2] / "benchmarks" / "results" / "simulator-check.json"


@pytest.fixture(scope="module")
def schedule(tmp_path_factory: pytest.TempPathFactory) -> Schedule:
    return SCENARIO.schedule(tmp_path_factory.mktemp("schedule"))


def test_the_scenario_is_a_ramp_and_the_same_each_time(schedule: Schedule, tmp_path: Path) -> None:
    assert SCENARIO.schedule(tmp_path).digest == schedule.digest
    crowded = sum(20 <= each.at_s < 60 for each in schedule.requests)
    assert crowded > len(schedule.requests) / 2


def test_the_platform_is_given_what_the_simulation_is_given(tmp_path: Path) -> None:
    path = SCENARIO.serve_config(DEFAULT_CONFIG, tmp_path)
    load_config(path)
    application = yaml.safe_load(path.read_text())["applications"][0]
    tiny = application["args"]["models"]["tiny"]
    assert (tiny["engine"]["max_rows"], tiny["deployment"]["max_ongoing_requests"]) == (4, 2)
    assert application["autoscaling_policy"]["policy_kwargs"]["models"]["tiny"]["stream_rate"] == 10.0


def made(schedule: Schedule, profile: Profile) -> list[Track]:
    """The tracks of one replica in a simulation, as its engine would log them."""
    cluster = Cluster({"tiny": profile}, promises(), Fixed({"tiny": 1}), {"tiny": 1})
    outcome = cluster.run(requests_of(schedule, ACCOUNTS), SCENARIO.until_s)
    return [Track("r", job.admitted_s, job.done_s or 0.0, job.request.audio_s) for job in outcome.jobs]


def test_the_fit_finds_the_rates_behind_the_tracks(schedule: Schedule) -> None:
    found = profile_of(made(schedule, PROFILE), 9.0)
    assert found.rate(1) == pytest.approx(PROFILE.rate(1), rel=0.03)
    assert found.rate(2) == pytest.approx(PROFILE.rate(2), rel=0.03)
    assert found.overhead_s == pytest.approx(PROFILE.overhead_s, abs=0.02)
    alone_s = PROFILE.overhead_s + PROFILE.first_audio_s / PROFILE.rate(1)
    assert latency_s([alone_s + 0.1] * 3, PROFILE) == pytest.approx(0.1)


def test_what_a_start_takes_from_the_others_is_seen(schedule: Schedule) -> None:
    tracks_ = made(schedule, PROFILE)
    assert beside_start(tracks_, tracks_, PROFILE) == pytest.approx(1.0, abs=0.03)
    halved = [Track("r", 2 * each.began_at, 2 * each.ended_at, each.audio_s) for each in tracks_]
    assert beside_start(halved, halved, PROFILE) == pytest.approx(0.5, abs=0.03)
    assert beside_start([], tracks_, PROFILE) == 1.0


def test_what_two_replicas_make_together_is_seen_where_both_are_full() -> None:
    both = [Track(name, 0.0, 10.0, 30.0) for name in ("r", "r", "s", "s")]
    assert shared_rate([*both, Track("r", 20.0, 21.0, 30.0)]) == pytest.approx(12.0)
    assert shared_rate([Track("r", 0.0, 10.0, 30.0), Track("r", 0.0, 10.0, 30.0)]) == math.inf


def test_a_run_that_was_kept_is_simulated_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The simulator as it is now, on what the platform did."""
    assert main(["--replay", str(KEPT), "--out", str(tmp_path / "again.json")]) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    assert shown[-2].startswith("| replica-seconds")
    assert json.loads(last)["within"] is True
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["requests"] == json.loads(KEPT.read_text())["requests"]


def test_a_run_that_says_too_little_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kept = json.loads(KEPT.read_text())
    path = tmp_path / "kept.json"
    path.write_text(json.dumps({**kept, "platform": {**kept["platform"], "ups": []}}))
    assert main(["--replay", str(path)]) == 2
    assert "no second replica" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "0 tracks say nothing"),
        ([Track("r", 10.0 * index, 10.0 * index + 1, 6.0) for index in range(12)], "the same company"),
    ],
)
def test_too_little_to_fit_is_said(given: list[Track], message: str) -> None:
    with pytest.raises(FitError, match=message):
        profile_of(given, 9.0)


def test_the_log_tells_tracks_and_changes(tmp_path: Path) -> None:
    lines_ = [
        {"event": "track_started", "track": "a", "timestamp": "2026-01-01T00:00:01Z"},
        {"event": "track_ended", "track": "a", "audio_s": 6.0, "timestamp": "2026-01-01T00:00:02.500Z"},
        {"event": "track_started", "track": "b", "timestamp": "2026-01-01T00:00:03Z"},
        {"event": "autoscaler_decided", "replicas_before": None, "replicas": 1, "timestamp": "2026-01-01T00:00:00Z"},
        {"event": "autoscaler_decided", "replicas_before": 1, "replicas": 2, "reason": "demand",
         "timestamp": "2026-01-01T00:00:04Z"},
    ]  # fmt: skip
    (tmp_path / "worker-1.err").write_text("not json\n" + "\n".join(json.dumps(line) for line in lines_) + "\n{half")
    (track,), (change,) = tracks(tmp_path), changes(tmp_path)
    assert (track.replica, track.ended_at - track.began_at, track.audio_s) == ("worker-1", 1.5, 6.0)
    assert (change.before, change.replicas, change.reason) == (1, 2, "demand")
    assert change.at - track.began_at == 3.0


def test_replicas_are_paid_for_from_when_they_were_asked_for() -> None:
    watch = Watch(seen={1: [90.0, 400.0], 2: [123.0, 180.0]})
    changes_ = [Change(120.0, 1, 2, "demand"), Change(170.0, 2, 1, "demand")]
    assert replica_s(watch, changes_, 100.0, 300.0) == pytest.approx(200 + 60)


def test_what_the_warm_up_changed_is_no_answer_to_the_schedule() -> None:
    changes_ = [Change(60.0, 1, 2, "demand"), Change(80.0, 2, 1, "demand"), Change(150.0, 1, 2, "demand")]
    seen = Run((), 100.0, Before(), Watch(), changes_, ()).seen(SCENARIO)
    assert (seen.ups, seen.downs) == ([50.0], [])


def test_a_simulator_that_is_wrong_is_told_from_one_that_is_not(schedule: Schedule) -> None:
    real = simulated(SCENARIO, schedule, PROFILE, ACCOUNTS)
    assert holds(lines(schedule, real, real), real, real)
    assert "replica-seconds" in table(lines(schedule, real, real), real, real)
    slow = simulated(SCENARIO, schedule, replace(PROFILE, base_s=2 * PROFILE.base_s, latency_s=1.0), ACCOUNTS)
    assert not holds(lines(schedule, real, slow), real, slow)
    idle = Seen(real.heard_s, 1.2 * real.replica_s, real.most, (), ())
    assert not holds(lines(schedule, real, idle), real, idle)
    assert lines(schedule, real, slow)[-1].tier == "all"


def test_a_share_that_the_kernel_does_not_give_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("_V1", "_V2"):
        monkeypatch.setattr(quota, name, tmp_path / "nowhere")
    with CpuQuota(0) as unlimited:
        unlimited.confine(1)
    with CpuQuota(0.5) as half, pytest.raises(QuotaError, match="--cpu-share 0 does without"):
        half.confine(1)


def test_a_share_is_written_where_the_kernel_reads_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(quota, "_V1", tmp_path / "nowhere")
    monkeypatch.setattr(quota, "_V2", tmp_path)
    with CpuQuota(0.4) as share:
        share.confine(17)
    assert (tmp_path / "tutti-check-17" / "cpu.max").read_text() == "4000 10000"
    assert (tmp_path / "tutti-check-17" / "cgroup.procs").read_text() == "17"
