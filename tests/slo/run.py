"""The proof of the service levels: a real platform, Prometheus and Alertmanager, a load, faults, and who says what.

``python -m tests.slo.run`` (``make slo-test``) prints a report and ends with 1 if a figure of the platform is not what
its clients saw, if an alert fired without a reason, or if one did not fire in time. It takes about five minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import descendants
from dashboards.preview.prometheus import Prometheus
from dashboards.timescale import TimeScale
from deployments.serve_config import DEFAULT_CONFIG
from tests.crash.cluster import Cluster, running, write_config
from tests.slo.faults import PHASES, Phase
from tests.slo.load import Load, sign_up, tiers_file, warm_up
from tests.slo.report import Report, as_markdown, write
from tests.slo.servers import Monitoring, monitoring
from tests.slo.truth import Span
from tests.slo.verdict import Broken, Run, judge

_TIERS = DEFAULT_CONFIG.parent / "api" / "limits" / "tiers.yaml"
ENDED_S = 60
_RAY_SESSION = re.compile(r"(/[^\s=]*/session_[\w-]+)")


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        phases: names, in order; the first is without a fault.
        rate: requests a second, all the time.
        baseline_s, fault_s, rest_s: without a fault, with one, and between two.
        factor: windows of rules are so many times shorter.
    """

    phases: tuple[str, ...] = tuple(PHASES)
    rate: float = 2.0
    baseline_s: float = 60.0
    fault_s: float = 20.0
    rest_s: float = 25.0
    factor: float = 60.0
    seed: int = 0
    checkpoint: str = "tiny"
    say: Callable[[str], object] = field(default=lambda text: sys.stderr.write(f"{time.strftime('%X')} {text}\n"))

    @property
    def broken(self) -> list[Phase]:
        return [PHASES[name] for name in self.phases if PHASES[name].sli is not None]

    @property
    def seconds(self) -> float:
        """Of the load."""
        return self.baseline_s + len(self.broken) * (self.fault_s + self.rest_s)


def run(plan: Plan, folder: Path) -> Report:
    """One run, in a folder for everything that it leaves."""
    scale = TimeScale(plan.factor)
    config = write_config(folder, plan.checkpoint, DEFAULT_CONFIG)
    tiers = folder / "tiers.yaml"
    tiers.write_text(tiers_file(_TIERS.read_text(encoding="utf-8")), encoding="utf-8")
    watched = folder / "monitoring"
    watched.mkdir()
    with ExitStack() as stack:
        plan.say("the platform starts")
        cluster = stack.enter_context(running(folder, config, TUTTI_TIERS_FILE=str(tiers)))
        seen = stack.enter_context(monitoring(watched, cluster.url, scale, _ray_targets(cluster)))
        plan.say(f"{plan.rate:g} requests a second for {plan.seconds:g} s")
        done = asyncio.run(_work(plan, cluster, seen))
        plan.say("the figures are compared")
        return judge(done, seen)


def _ray_targets(cluster: Cluster) -> list[str]:
    """Where this platform's Ray tells its own metrics: written down in the folder that its processes name."""
    titles = " ".join(descendants(cluster.pid).values())
    sessions = {Path(found) for found in _RAY_SESSION.findall(titles)}
    files = [file for session in sessions for file in session.glob("metrics_export_port_*")]
    return [f"127.0.0.1:{file.read_text().strip()}" for file in files]


async def _work(plan: Plan, cluster: Cluster, seen: Monitoring) -> Run:
    load = Load(cluster.url, await sign_up(cluster), plan.seed)
    await warm_up(load)
    await _scraped(seen)
    start, broken = time.time(), []
    busy_until = start + plan.seconds
    sending = asyncio.create_task(load.send(plan.rate, plan.seconds))
    await asyncio.sleep(plan.baseline_s)
    quiet = Span(start, time.time())
    for phase in plan.broken:
        broken.append(await _break(plan, phase, cluster, load))
        await asyncio.sleep(plan.rest_s)
    await sending
    await _ended(seen)
    await _scraped(seen)
    return Run(start, busy_until, time.time(), quiet, tuple(broken), tuple(load.heard), tuple(load.lag_s), plan.rate)


async def _break(plan: Plan, phase: Phase, cluster: Cluster, load: Load) -> Broken:
    plan.say(f"{phase.name} for {plan.fault_s:g} s")
    start = time.time()
    async with phase.breaks(cluster), asyncio.TaskGroup() as group:
        if phase.rate:
            tiers = {phase.tier: 1.0}
            group.create_task(
                load.send(phase.rate, plan.fault_s, tiers=tiers, length_s=phase.length_s, mode=phase.mode)
            )
        await asyncio.sleep(plan.fault_s)
    return Broken(phase, Span(start, time.time()))


async def _ended(seen: Monitoring) -> None:
    """Until no stream is open: it is counted when it ends, a moment after its client has had the last byte."""
    with Prometheus(seen.prometheus) as server:
        for _ in range(ENDED_S):
            await asyncio.sleep(1)
            open_ones = await asyncio.to_thread(server.query, "sum(tutti_active_streams)", time.time())
            if not any(series.last for series in open_ones):
                return


async def _scraped(seen: Monitoring) -> None:
    """Until what is counted now stands in Prometheus and in its rules."""
    await asyncio.sleep(6 * seen.scale.scrape_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    defaults = Plan()
    parser.add_argument("--phases", nargs="+", choices=tuple(PHASES), default=defaults.phases)
    parser.add_argument("--rate", type=float, default=defaults.rate, help="requests a second")
    parser.add_argument("--baseline", type=float, default=defaults.baseline_s, help="seconds without a fault")
    parser.add_argument("--fault", type=float, default=defaults.fault_s, help="seconds of each fault")
    parser.add_argument("--rest", type=float, default=defaults.rest_s, help="seconds after each fault")
    parser.add_argument("--time-scale", type=float, default=defaults.factor, help="windows are so many times shorter")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--out", type=Path, help="folder for the report: slo_test.md and slo_test.json")
    parser.add_argument("--keep", type=Path, help="folder for logs and data; left out: one that is removed")
    args = parser.parse_args()
    # Whoever ends it ends the platform and the servers as well, which would go on without it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = Plan(
        tuple(args.phases), args.rate, args.baseline, args.fault, args.rest, args.time_scale, args.seed
    )  # fmt: skip
    with ExitStack() as stack:
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        report = run(plan, folder)
    if args.out is not None:
        write(report, args.out)
    sys.stdout.write(as_markdown(report))
    raise SystemExit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
