"""``python -m benchmarks.simulator_check``: one schedule on the running platform and in the simulator.

A platform with the tiny model is started; its policy takes it from one replica to two and back. The engine's rates and
the cold start are taken from its own log of that run, and given to the simulator with the same schedule. The last line
is JSON; the exit code is 1 if the two are farther apart than 2 points of attainment or 10 % of replica-seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoscaling.simulator.replica import Profile
from benchmarks.serve_load.generators import Target, run
from benchmarks.serve_load.outcome import Outcome
from benchmarks.serve_load.plan import Schedule, Workload, build
from benchmarks.serve_load.preflight import known_keys
from benchmarks.serve_load.started import started
from benchmarks.simulator_check.compare import Before, Seen, table
from benchmarks.simulator_check.fit import FitError
from benchmarks.simulator_check.observed import Change, Track, Watch, changes, replica_s, tracks
from benchmarks.simulator_check.quota import CpuQuota, QuotaError
from benchmarks.simulator_check.replay import replay
from benchmarks.simulator_check.scenario import LENGTHS_S, TIERS, Scenario
from deployments.platform import DEFAULT_CONFIG

ACCOUNTS = 20
TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Run:
    """What was seen of the platform; times are seconds of ``time.time``."""

    outcomes: Sequence[Outcome]
    began: float
    before: Before
    watch: Watch
    changes: Sequence[Change]
    tracks: Sequence[Track]

    def seen(self, scenario: Scenario) -> Seen:
        heard = {each.planned.number: each.first_audio_s for each in self.outcomes if each.result != "refused"}
        ended = self.began + scenario.until_s
        total = replica_s(self.watch, self.changes, self.began, ended)
        later = [each for each in self.changes if each.at >= self.began]  # what the warm-up needed is over by then
        ups = [each.at - self.began for each in later if each.replicas > each.before]
        downs = [each.at - self.began for each in later if each.replicas < each.before]
        return Seen(heard, total, len(self.watch.seen), ups, downs)

    def kept(self, scenario: Scenario, schedule: Schedule) -> dict[str, Any]:
        """As ``replay`` takes it."""
        real = self.seen(scenario)
        heard, places = real.heard_s, 3
        return {
            "scenario": asdict(scenario),
            "before": asdict(self.before),
            "platform": {name: value for name, value in asdict(real).items() if name != "heard_s"},
            "requests": [
                [each.at_s, each.tier, each.duration_s, _rounded(heard.get(each.number)), each.number in heard]
                for each in schedule.requests
            ],
            "tracks": [
                [
                    t.replica[-8:],
                    round(t.began_at - self.began, places),
                    round(t.ended_at - self.began, places),
                    t.audio_s,
                ]
                for t in self.tracks
            ],
        }


def observe(scenario: Scenario, schedule: Schedule, folder: Path, settle_s: float, cpu_share: float) -> Run:
    """The platform under the schedule, from its start to its stop."""
    config = scenario.serve_config(DEFAULT_CONFIG, folder)
    first = [0.0]

    def note(_: Sequence[Outcome], elapsed_s: float) -> None:
        first[0] = first[0] or time.time() - elapsed_s

    # Ray lets its workers stand behind everything else on the machine; here the share of a core is to be theirs.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with CpuQuota(cpu_share) as quota, (watch := Watch(quota)).looking(), started(config, ACCOUNTS) as (url, pairs):
        ready = time.time()
        target = Target(url, asyncio.run(known_keys(url, pairs)), TIMEOUT_S)
        warm_up = build(Workload("steady", 1.0, 6.0, scenario.seed + 1, tiers=TIERS, lengths_s=LENGTHS_S))
        warmed = time.time() - ready
        run(warm_up, target, 1)  # imports, caches, and whatever else happens once
        time.sleep(max(0.0, settle_s - (time.time() - ready)))
        if watch.failed is not None:
            raise watch.failed
        sent = run(schedule, target, 1, note)
        time.sleep(max(0.0, first[0] + scenario.until_s - time.time()))
        assert watch.session is not None, "the platform runs below this process"
        logs = watch.session / "logs"
        before = Before(first[0] - ready, [(warmed + each.at_s, each.duration_s) for each in warm_up.requests])
        made = [track for track in tracks(logs) if track.began_at >= first[0]]
        return Run(sent.outcomes, first[0], before, watch, changes(logs), made)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Returns:
        0: within the bounds; 1: not; 2: there is nothing to compare.
    """
    given = _parser().parse_args(argv)
    try:
        kept = json.loads(given.replay.read_text(encoding="utf-8")) if given.replay else _run(given)
        if given.out is not None:  # six minutes are not thrown away because nothing can be fitted to them
            _write(kept, given.out)
        found = replay(kept, ACCOUNTS)
    except (FitError, QuotaError, OSError, KeyError, ValueError) as error:
        print(f"simulator_check: {error}", file=sys.stderr)
        return 2
    print(in_words(len(kept["requests"]), found.profile))
    print(table(found.lines, found.real, found.told))
    result = {**kept, **found.as_dict()}
    if given.out is not None:
        _write(result, given.out)
    short = {name: value for name, value in result.items() if name not in ("requests", "tracks")}
    print(json.dumps(short, allow_nan=False))
    return 0 if found.is_within else 1


def _run(given: argparse.Namespace) -> dict[str, Any]:
    scenario = Scenario(given.low, given.high, given.capacity, given.calm, given.crowd, given.after, seed=given.seed)
    with tempfile.TemporaryDirectory(prefix="tutti-check-") as folder:
        schedule = scenario.schedule(Path(folder))
        seen = observe(scenario, schedule, Path(folder), given.settle, given.cpu_share)
    machine = {"cores": os.cpu_count(), "cpu_share": given.cpu_share}
    return {"benchmark": "simulator_check", "schema": 1, "machine": machine, **seen.kept(scenario, schedule)}


def _write(result: Mapping[str, Any], out: Path) -> None:
    out.write_text(json.dumps(result, allow_nan=False) + "\n", encoding="utf-8")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def in_words(requests: int, profile: Profile) -> str:
    """What was sent, and what the engine's log says of the engine."""
    rates = f"a stream alone is made at {profile.rate(1):.1f} times real time, two at {profile.rate(2):.1f} each"
    inside_ms, outside_ms = 1000 * profile.overhead_s, 1000 * profile.latency_s
    overheads = f"overhead {inside_ms:.0f} ms in the replica and {outside_ms:.0f} ms before and after it"
    start = (
        f"cold start {profile.cold_start_s:.1f} s, beside which the other keeps {profile.beside_start:.0%} of its rate"
    )
    return f"{requests} requests; {rates}; {start}; {overheads}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulator_check", description=__doc__)
    parser.add_argument("--low", type=float, default=0.8, help="requests per second before and after the crowd")
    parser.add_argument("--high", type=float, default=2.3, help="requests per second of the crowd")
    parser.add_argument("--capacity", type=float, default=9.0, help="audio-s/s of a replica, as the policy is told")
    parser.add_argument("--calm", type=float, default=40.0, help="seconds before the crowd")
    parser.add_argument("--crowd", type=float, default=100.0, help="seconds of the crowd")
    parser.add_argument("--after", type=float, default=90.0, help="seconds after it")
    parser.add_argument("--cpu-share", type=float, default=0.4, help="of a core, for each replica; 0: no limit")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds before the first request of the schedule")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="simulate a run that --out has kept, again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the result with all requests and tracks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
