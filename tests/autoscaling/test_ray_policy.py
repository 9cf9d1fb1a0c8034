"""The policy "demand" as Serve's controller calls it, with contexts that have the documented attributes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deployments.demand_autoscaling import DemandAutoscaling
from deployments.demand_metrics import shown
from deployments.demand_settings import POLICY, check_policy
from deployments.demand_signals import Starts

NOW = 1_000_000.0


class Id(NamedTuple):
    """As Serve's DeploymentID."""

    name: str
    app_name: str = "tutti"


class Stamped(NamedTuple):
    """As Serve's TimeStampedValue."""

    timestamp: float
    value: Any


class Replica(NamedTuple):
    """As Serve's ReplicaID."""

    unique_id: str


@dataclass
class Context:
    """As Serve's AutoscalingContext, as far as the policy looks."""

    current_num_replicas: Any = 1
    target_num_replicas: Any = 1
    current_time: Any = NOW
    capacity_adjusted_min_replicas: Any = 0
    capacity_adjusted_max_replicas: Any = 4
    raw_metrics: Any = field(default_factory=dict)
    running_replicas: Any = ()

    def report(self, replica: str, at: float, **values: float) -> None:
        for name, value in values.items():
            self.raw_metrics.setdefault(name, {}).setdefault(replica, []).append(Stamped(at, value))


TINY, GATEWAY, WORKER = Id("musicgen-tiny"), Id("Gateway"), Id("Worker")
ARRIVALS = {
    "tiny:short_s": 0.0,
    "tiny:medium_s": 0.0,
    "tiny:long_s": 0.0,
    "tiny:dispersion": 1.0,
    "tiny:mean_audio_s": 0.0,
}
WAITING = {"looked_s_ago": 0.2, "tiny:queued": 0.0, "tiny:stream_s": 0.0, "tiny:job_s": 0.0, "tiny:job_due_s": 0.0}
SENT = {"tiny:sent_stream_s": 0.0, "tiny:sent_job_s": 0.0, "tiny:sent_job_due_s": 0.0}
TINY_DEMAND = {"streams": 10, "stream_rate": 1.0, "cold_start_s": 5.0, "beta": 0.0, "break_even_s": 30.0}


class Cluster:
    """One model, one gateway, one worker; everything idle."""

    def __init__(self) -> None:
        self.tiny = Context()
        self.gateway, self.worker = Context(), Context()

    def at(self, now: float, **changes: float) -> dict[Id, Context]:
        """The contexts at a time, everything reported just then."""
        seen = {TINY: self.tiny, GATEWAY: self.gateway, WORKER: self.worker}
        for context in seen.values():
            context.current_time, context.raw_metrics = now, {}
        named = {name.replace("_of_", ":", 1): value for name, value in changes.items()}
        self.gateway.report("g1", now, **{**ARRIVALS, **{key: named[key] for key in ARRIVALS if key in named}})
        facts = {**WAITING, **SENT}
        self.worker.report("w1", now, **{**facts, **{key: named[key] for key in facts if key in named}})
        load = {
            "streams": 0.0,
            "active_rows": 0.0,
            "running_audio_s": 0.0,
            "capacity_audio_s_per_s": 0.0,
            "startup_s": 1.0,
        }
        if self.tiny.current_num_replicas:
            self.tiny.report("r1", now, **{**load, **{key: named[key] for key in load if key in named}})
        return seen


def policy(**more: Any) -> DemandAutoscaling:
    return DemandAutoscaling(models={"tiny": {**TINY_DEMAND, **more}})


def ask(given_policy: DemandAutoscaling, contexts: dict[Id, Context]) -> tuple[int, dict[str, Any]]:
    wanted, states = given_policy(contexts)
    assert wanted[GATEWAY] == wanted[WORKER] == 1
    return wanted[TINY], states.get(TINY, {})


def test_nothing_to_do_goes_to_zero_and_what_comes_wakes_it() -> None:
    cluster, asked = Cluster(), policy(break_even_s=0.0)
    replicas, state = ask(asked, cluster.at(NOW))
    assert (replicas, state["action"]) == (0, "down")
    cluster.tiny.current_num_replicas = cluster.tiny.target_num_replicas = 0
    replicas, state = ask(asked, cluster.at(NOW + 1, tiny_of_sent_stream_s=12.0))
    assert (replicas, state["action"]) == (1, "up")
    assert state["waiting_audio_s"] == 12.0


@pytest.mark.parametrize("signal", ["running_audio_s", "tiny_of_stream_s", "tiny_of_sent_stream_s"])
def test_work_that_is_due_asks_for_replicas(signal: str) -> None:
    """600 audio-s; one replica makes 10 a second, and within 5 s + 5 s it and those that come make 100 + 50 each."""
    cluster = Cluster()
    changes = {signal: 600.0} if signal != "running_audio_s" else {signal: 599.0, "tiny_of_stream_s": 1.0}
    replicas, state = ask(policy(), cluster.at(NOW, **changes))
    assert replicas == 4  # the most there may be
    assert (state["reason"], state["components"]["backlog"]) == ("ceiling", 11.0)


def test_a_job_is_due_when_its_deadline_says() -> None:
    cluster = Cluster()
    assert ask(policy(), cluster.at(NOW, tiny_of_job_s=300.0, tiny_of_job_due_s=60.0))[0] == 1
    assert ask(policy(), cluster.at(NOW, tiny_of_job_s=300.0, tiny_of_job_due_s=1.0))[0] == 4
    assert ask(policy(), cluster.at(NOW, tiny_of_sent_job_s=300.0, tiny_of_sent_job_due_s=1.0))[0] == 4


def test_arrivals_of_all_gateways_count_together() -> None:
    cluster = Cluster()
    contexts = cluster.at(NOW, tiny_of_medium_s=8.0, tiny_of_long_s=8.0)
    assert ask(policy(), contexts)[1]["components"]["base"] == pytest.approx(0.8)
    cluster.gateway.report("g2", NOW, **{**ARRIVALS, "tiny:medium_s": 8.0, "tiny:long_s": 8.0})
    replicas, state = ask(policy(), contexts)
    assert (replicas, state["components"]["base"]) == (2, pytest.approx(1.6))


def test_unevenness_is_that_of_the_busier_gateway() -> None:
    cluster = Cluster()
    contexts = cluster.at(NOW, tiny_of_long_s=9.0, tiny_of_dispersion=4.0)
    cluster.gateway.report("g2", NOW, **{**ARRIVALS, "tiny:long_s": 1.0, "tiny:dispersion": 14.0})
    # (9 × 4 + 1 × 14) / 10 = 5; the root of 10 rows × 5, over 10 rows
    assert ask(policy(beta=1.0), contexts)[1]["components"]["headroom"] == pytest.approx(0.707, abs=1e-3)


def test_several_workers_say_the_same_of_the_queue_and_their_own_of_what_they_sent() -> None:
    cluster = Cluster()
    contexts = cluster.at(NOW, tiny_of_stream_s=20.0, tiny_of_sent_stream_s=5.0)
    cluster.worker.report("w2", NOW - 0.5, **{**WAITING, **SENT, "tiny:stream_s": 30.0, "tiny:sent_stream_s": 7.0})
    assert ask(policy(), contexts)[1]["waiting_audio_s"] == 20.0 + 5.0 + 7.0


@pytest.mark.parametrize("silent", ["gateway", "worker", "tiny", "database"])
def test_old_news_change_nothing(silent: str) -> None:
    cluster, asked = Cluster(), policy()
    cluster.tiny.target_num_replicas = cluster.tiny.current_num_replicas = 3
    assert ask(asked, cluster.at(NOW, tiny_of_medium_s=25.0))[0] == 3
    contexts = cluster.at(NOW + 60)
    if silent == "database":
        cluster.worker.raw_metrics["looked_s_ago"] = {"w1": [Stamped(NOW + 60, 40.0)]}
    else:
        context: Context = getattr(cluster, silent)
        for each in context.raw_metrics.values():
            each.update({replica: [Stamped(NOW, series[-1].value)] for replica, series in each.items()})
    replicas, state = ask(asked, contexts)
    assert (replicas, state["action"], state["reason"]) == (3, "hold", "stale")


def test_the_newest_report_counts() -> None:
    cluster = Cluster()
    contexts = cluster.at(NOW, tiny_of_medium_s=35.0)
    cluster.gateway.report("g1", NOW, **ARRIVALS)
    assert ask(policy(), contexts)[1]["components"]["wish"] == 0


def test_a_replica_that_starts_counts_from_when_it_will_serve() -> None:
    cluster, asked = Cluster(), policy(cold_start_s=20.0)
    load = {"tiny_of_stream_s": 260.0}
    first, _ = ask(asked, cluster.at(NOW, **load))
    assert first == 2
    cluster.tiny.target_num_replicas = 2
    replicas, state = ask(asked, cluster.at(NOW + 10, **load))
    assert (replicas, state["starting"]) == (2, 1)  # it is on its way: no third one


def test_a_start_that_was_seen_is_what_the_next_is_expected_to_take() -> None:
    starts = Starts()
    starts.look(ready=1, target=3, now=100.0)
    assert starts.due_in_s(30.0, 110.0) == (20.0, 20.0)
    assert starts.cold_start_s(30.0, reported_s=4.0) == 30.0
    starts.look(ready=2, target=3, now=112.0)
    assert starts.cold_start_s(30.0, reported_s=4.0) == 12.0
    assert starts.due_in_s(12.0, 112.0) == (0.0,)
    starts.look(ready=2, target=2, now=120.0)  # no longer wanted: nothing has started
    assert (starts.measured_s, starts.due_in_s(12.0, 120.0)) == (12.0, ())
    starts.look(ready=2, target=3, now=200.0)
    starts.look(ready=3, target=3, now=900.0)  # there was no machine for it
    assert starts.cold_start_s(30.0, reported_s=4.0) == 90.0


def test_what_a_start_takes_is_remembered_when_nobody_is_left_to_say_so() -> None:
    starts = Starts()
    starts.look(ready=0, target=1, now=100.0)
    starts.look(ready=1, target=1, now=140.0)
    assert starts.cold_start_s(5.0, reported_s=13.0) == 39.0
    starts.look(ready=0, target=0, now=300.0)
    assert starts.cold_start_s(5.0, reported_s=0.0) == 39.0


def test_what_replicas_measure_counts_when_nothing_is_configured() -> None:
    demand = {**TINY_DEMAND, "stream_rate": None}
    cluster = Cluster()
    loaded = cluster.at(NOW, tiny_of_medium_s=20.0, capacity_audio_s_per_s=40.0)
    assert ask(DemandAutoscaling(models={"tiny": demand}), loaded)[1]["components"]["base"] == pytest.approx(0.5)
    assert ask(policy(), loaded)[1]["components"]["base"] == pytest.approx(2.0)


def test_what_replicas_measured_still_counts_when_the_model_sleeps() -> None:
    cluster, asked = Cluster(), DemandAutoscaling(models={"tiny": {**TINY_DEMAND, "stream_rate": None}})
    ask(asked, cluster.at(NOW, capacity_audio_s_per_s=40.0))
    cluster.tiny.current_num_replicas = cluster.tiny.target_num_replicas = 0
    assert ask(asked, cluster.at(NOW + 1, tiny_of_medium_s=20.0))[1]["components"]["base"] == pytest.approx(0.5)


def test_between_decisions_the_last_one_stands() -> None:
    cluster, asked = Cluster(), policy()
    assert ask(asked, cluster.at(NOW))[0] == 1
    assert ask(asked, cluster.at(NOW + 0.1, tiny_of_stream_s=600.0))[0] == 1
    assert ask(asked, cluster.at(NOW + 1.0, tiny_of_stream_s=600.0))[0] == 4


def test_the_file_says_how_many_there_may_be() -> None:
    cluster = Cluster()
    cluster.tiny.capacity_adjusted_min_replicas = cluster.tiny.capacity_adjusted_max_replicas = 2
    replicas, state = ask(policy(warm_floor=3), cluster.at(NOW))
    assert (replicas, state["reason"]) == (2, "floor")


def test_gpus_are_shared_when_they_do_not_suffice() -> None:
    large = Id("musicgen-large")
    cluster = Cluster()
    contexts = cluster.at(NOW, tiny_of_stream_s=600.0)
    contexts[large] = Context(capacity_adjusted_min_replicas=1)
    both = {"tiny": {**TINY_DEMAND, "gpu_share": 0.5}, "large": {**TINY_DEMAND, "gpu_share": 1.0}}
    wanted, states = DemandAutoscaling(models=both, gpus=2, order=["large", "tiny"])(contexts)
    assert (wanted[large], wanted[TINY], states[TINY]["reason"]) == (1, 2, "gpus")


def test_each_change_is_a_line_with_its_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    cluster, asked = Cluster(), policy()
    for second in range(3):
        ask(asked, cluster.at(NOW + second))
    for second in range(3, 6):
        ask(asked, cluster.at(NOW + second, tiny_of_stream_s=600.0))
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["replicas_before"], line["replicas"]) for line in told] == [
        ("autoscaler_decided", None, 1),
        ("autoscaler_decided", 1, 4),
    ]
    assert (told[1]["model"], told[1]["action"], told[1]["reason"]) == ("tiny", "up", "ceiling")
    assert told[1]["components"]["backlog"] > 4


@pytest.fixture
def unshown() -> Iterator[None]:
    """The process's meter is made anew, before and after."""
    shown.cache_clear()
    yield
    shown.cache_clear()


@pytest.mark.usefixtures("unshown")
@pytest.mark.parametrize(("took_s", "lines"), [(19.0, 0), (21.0, 1)])
def test_a_start_over_its_budget_is_a_line_and_counts(
    capsys: pytest.CaptureFixture[str], took_s: float, lines: int
) -> None:
    cluster, asked = Cluster(), policy(cold_start_s=20.0)
    cluster.tiny.target_num_replicas = cluster.tiny.current_num_replicas + 1
    ask(asked, cluster.at(NOW))
    cluster.tiny.current_num_replicas += 1
    for second in range(3):
        ask(asked, cluster.at(NOW + took_s + second))
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    over = [line for line in told if line["event"] == "cold_start_over_budget"]
    assert [(line["model"], line["took_s"], line["budget_s"]) for line in over] == [("tiny", 21.0, 20.0)] * lines
    grown, gauges = shown().read()
    assert gauges["tutti_autoscaler_start_seconds"] == {("tiny",): took_s}
    assert sum(grown.get("tutti_autoscaler_starts_over_budget_total", {}).values()) == lines


def test_a_model_that_nobody_described_stays_as_it_is_and_the_log_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster()
    other = Id("musicgen-other")
    wanted, states = policy()({**cluster.at(NOW), other: Context(target_num_replicas=3)})
    assert wanted[other] == 3
    assert set(states) == {TINY}
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert ("autoscaler_held", "other") in [(line["event"], line.get("about")) for line in told]


class Hostile:
    """Whatever is asked of it fails."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just({}), st.builds(Hostile)
)
SERIES = st.one_of(ANYTHING, st.lists(st.builds(Stamped, st.floats(), ANYTHING), max_size=2))
NAMES = st.sampled_from(
    [*ARRIVALS, *WAITING, *SENT, "streams", "running_audio_s", "capacity_audio_s_per_s", "startup_s"]
)
METRICS = st.one_of(ANYTHING, st.dictionaries(NAMES, st.one_of(ANYTHING, st.dictionaries(st.text(max_size=2), SERIES))))
CONTEXT = st.one_of(
    ANYTHING, st.builds(Context, ANYTHING, ANYTHING, st.one_of(ANYTHING, st.just(NOW)), ANYTHING, ANYTHING, METRICS)
)
KEY = st.one_of(st.sampled_from([TINY, GATEWAY, WORKER]), st.integers())


@given(st.lists(st.one_of(ANYTHING, st.dictionaries(KEY, CONTEXT)), min_size=1, max_size=3))
def test_it_never_raises_and_answers_in_whole_numbers(ticks: list[Any]) -> None:
    asked = policy()
    for contexts in ticks:
        wanted, states = asked(contexts)
        assert all(type(number) is int and number >= 0 for number in wanted.values())
        assert isinstance(states, dict)
        assert set(states) <= set(wanted)
        assert all(isinstance(state, dict) for state in states.values())
    cluster = Cluster()
    assert ask(asked, cluster.at(NOW + 100, tiny_of_stream_s=600.0))[0] == 4  # and has not lost its wits


@given(st.one_of(ANYTHING, st.dictionaries(st.sampled_from(["tiny", "large"]), ANYTHING)))
def test_bad_options_hold(models: Any) -> None:
    cluster = Cluster()
    cluster.tiny.target_num_replicas = 3
    wanted, _ = DemandAutoscaling(models=models, no_such_option=1)(cluster.at(NOW))
    assert wanted == {TINY: 3, GATEWAY: 1, WORKER: 1}


def test_a_failure_is_told_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    cluster, asked = Cluster(), policy()
    for tick in range(100):
        contexts = cluster.at(NOW + tick)
        cluster.tiny.raw_metrics = Hostile()
        assert ask(asked, contexts)[0] == 1
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["about"]) for line in told] == [("autoscaler_held", "tiny")] * 2


def test_a_typo_in_the_file_is_refused_when_it_is_read() -> None:
    check_policy(None)
    check_policy({"policy_function": POLICY, "policy_kwargs": {"models": {"tiny": TINY_DEMAND}}})
    with pytest.raises(ValidationError, match="cold_start"):
        check_policy(
            {"policy_function": POLICY, "policy_kwargs": {"models": {"tiny": {"streams": 1, "cold_start": 5}}}}
        )


def test_the_controller_loads_no_torch_for_it() -> None:
    code = (
        "import sys, deployments.demand_autoscaling as d; d.DemandAutoscaling(models={}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.usefixtures("unshown")
def test_what_is_decided_is_counted() -> None:
    cluster, asked = Cluster(), policy()
    cluster.tiny.running_replicas = [Replica("r1")]
    for second, due_s in enumerate([0.0, 600.0, 600.0]):
        ask(asked, cluster.at(NOW + second, tiny_of_stream_s=due_s, active_rows=2.0))
    cluster.tiny.target_num_replicas = 4
    ask(asked, cluster.at(NOW + 3, tiny_of_stream_s=600.0, active_rows=2.0))
    grown, gauges = shown().read()
    decided = grown["tutti_autoscaler_decisions_total"]
    assert decided == {("tiny", "hold", "held"): 1.0, ("tiny", "up", "ceiling"): 1.0}
    replicas = gauges["tutti_autoscaler_replicas"]
    states = {state: replicas["tiny", state] for state in ("desired", "ready", "starting")}
    assert states == {"desired": 4, "ready": 1, "starting": 3}
    assert gauges["tutti_autoscaler_demand_replicas"]["tiny", "backlog"] > 4
    assert grown["tutti_gpu_seconds_total"]["tiny", "busy"] == 0.0  # it takes no share of a GPU


@pytest.mark.usefixtures("unshown")
def test_those_who_wait_are_told_when_a_replica_will_serve() -> None:
    cluster, asked = Cluster(), policy(break_even_s=0.0)
    cluster.tiny.current_num_replicas = cluster.tiny.target_num_replicas = 0
    ask(asked, cluster.at(NOW))
    assert shown().starts() == {"tiny": (5.0 + 2.0, None)}
    ask(asked, cluster.at(NOW + 1, tiny_of_stream_s=10.0))
    cluster.tiny.target_num_replicas = 1
    ask(asked, cluster.at(NOW + 2, tiny_of_stream_s=10.0))
    ask(asked, cluster.at(NOW + 4, tiny_of_stream_s=10.0))
    assert shown().starts() == {"tiny": (5.0 - 2.0, None)}
    assert shown().due() == {"tiny": ((NOW + 2 + 5, 1),)}
    ask(asked, cluster.at(NOW + 9, tiny_of_stream_s=10.0))
    assert shown().starts() == {"tiny": (1.0, None)}  # it takes longer than expected, and does not serve yet
    cluster.tiny.current_num_replicas, cluster.tiny.running_replicas = 1, [Replica("r1")]
    ask(asked, cluster.at(NOW + 10))
    assert shown().starts() == {"tiny": (0.0, NOW + 10)}
    assert shown().due() == {}


@pytest.mark.usefixtures("unshown")
def test_metrics_that_cannot_be_shown_hold_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUTTI_METRICS_HOST", "")
    cluster, asked = Cluster(), policy()
    for second in range(3):
        assert ask(asked, cluster.at(NOW + second, tiny_of_stream_s=600.0))[0] == 4
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["about"] for line in told if line["event"] == "autoscaler_held"] == ["metrics"]
