"""``tutti bench serve``: load on a running platform, and what the service levels say of it.

The last line of stdout is one JSON object; ``--out`` keeps it with every request, for ``tutti bench compare``.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform as machine
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from api.cli_output import usage_error
from benchmarks.serve_load import options
from benchmarks.serve_load.generators import Progress, Target, run
from benchmarks.serve_load.judgement import Objectives
from benchmarks.serve_load.outcome import Outcome
from benchmarks.serve_load.page import page
from benchmarks.serve_load.plan import Workload, build
from benchmarks.serve_load.preflight import check, default_model, known_keys
from benchmarks.serve_load.processor import ProcessorTime
from benchmarks.serve_load.result import SCHEMA, evaluate
from benchmarks.serve_load.saturation import find_max
from benchmarks.serve_load.started import started
from benchmarks.serve_load.statistics import quantile
from benchmarks.serve_load.table import show, show_search
from dashboards.objectives import load_objectives

URL = "http://127.0.0.1:8000"
FAILED, INVALID = 1, 3
_WIDTH = 150  # of a table in a file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it.

    Returns:
        0: no objective is missed; 1: one is; 3: the run is invalid.

    Raises:
        CliError: what was asked for cannot be; nothing was sent.
    """
    given = options.parser().parse_args(arguments)
    _check(given)
    console = Console(quiet=given.quiet, highlight=False)
    if not console.is_terminal:
        console = Console(quiet=given.quiet, highlight=False, width=_WIDTH)
    with ExitStack() as stack:
        url, accounts = given.url or URL, given.api_key
        if given.start:
            with _status("Starting a platform …", given.quiet):
                url, accounts = stack.enter_context(started(given.config, given.accounts))
        bench = _Bench.prepare(given, url, accounts, console)
        result = bench.search() if given.find_max else bench.once(bench.workload)
    result = {"benchmark": "serve", "schema": SCHEMA, **result, **bench.circumstances()}
    show(result, console)
    if "search" in result:
        show_search(result["search"], console)
    _keep(result, given)
    print(json.dumps({name: value for name, value in result.items() if name != "requests"}, allow_nan=False))
    return _exit_code(result)


def _exit_code(result: dict[str, Any]) -> int:
    if result["verdict"] == "invalid":
        return INVALID
    return FAILED if "fail" in (result["verdict"], result.get("search", {}).get("verdict")) else 0


@dataclass(frozen=True)
class _Bench:
    """What stays the same over the trials of a search."""

    given: options.Arguments
    target: Target
    workload: Workload
    objectives: Objectives
    console: Console

    @classmethod
    def prepare(
        cls, given: options.Arguments, url: str, accounts: Sequence[tuple[str, str]], console: Console
    ) -> _Bench:
        """Everything that can be refused is refused here, before the first request."""
        objectives = load_objectives()
        keys = asyncio.run(known_keys(url, accounts))
        workload = options.workload_of(given, [tier for tier in keys if tier in objectives.tiers])
        for tier in workload.tiers:
            if tier not in objectives.tiers:
                promised = ", ".join(objectives.tiers)
                raise usage_error(f"dashboards/slo.yaml promises nothing to tier {tier!r}, only to {promised}")
        if not workload.models:
            workload = replace(workload, models={asyncio.run(default_model(url)): 1.0})
        for warning in asyncio.run(check(url, keys, workload, build(workload))):
            console.print(f"Warning: {warning}", style="yellow")
        return cls(given, Target(url, keys, given.timeout), workload, objectives, console)

    def once(self, workload: Workload) -> dict[str, Any]:
        schedule = build(workload)
        processes = options.processes_for(self.given, len(schedule.requests) / schedule.duration_s)
        with _progress(self.given.quiet, len(schedule.requests)) as progress, ProcessorTime() as spent:
            sent = run(schedule, self.target, processes, progress)
        warm_up_s = options.warm_up_of(self.given)
        found = evaluate(schedule, sent, self.objectives, warm_up_s=warm_up_s, target=self.given.target)
        settings = {**workload.as_dict(), "processes": processes, "timeout_s": self.given.timeout}
        # Of a platform that was started elsewhere this process sees nothing.
        return {**found, "processor_s": spent.by_name() if self.given.start else None, "settings": settings}

    def search(self) -> dict[str, Any]:
        """The best trial's report, with all trials beside it."""
        last: dict[str, Any] = {}

        def trial(rate: float, attempt: int) -> dict[str, Any]:
            last.update(self.once(replace(self.workload, rate=rate, seed=self.workload.seed + attempt)))
            total = last["total"]
            self.console.print(
                f"{rate:.2f} a second: {total['good_audio_s_per_s']:.2f} good audio s/s of "
                f"{total['offered_audio_s_per_s']:.2f} offered: {last['verdict']}"
            )
            return dict(last)

        given = self.given
        found = find_max(trial, self.workload.rate or 2.0, max_trials=given.max_trials, precision=given.precision)
        return {**(last if found.best is None else found.best), "search": found.as_dict()}

    def circumstances(self) -> dict[str, Any]:
        return {
            "target": {
                "url": self.target.url,
                "accounts": {name: len(keys) for name, keys in self.target.keys.items()},
            },
            "machine": {"cpus": os.cpu_count(), "python": machine.python_version(), "load": list(os.getloadavg())},
        }


def _check(given: options.Arguments) -> None:
    """What can be seen without a server.

    Raises:
        CliError, PlanError, TraceError, OSError: it can not be.
    """
    if given.start and (given.url is not None or given.api_key):
        raise usage_error("--start brings its own address and accounts: leave --url and --api-key out")
    if given.config is not None and not given.start:
        raise usage_error("--config is of the platform that --start starts: give --start, too")
    if given.trace is not None and given.profile not in {None, "trace"}:
        raise usage_error(f"--trace is a profile of its own: leave --profile {given.profile} out")
    if options.warm_up_of(given) >= given.duration:
        raise usage_error("--warm-up leaves nothing to look at: it must be shorter than --duration")
    for path in (given.out, given.html):
        if path is not None and not path.absolute().parent.is_dir():
            raise usage_error(f"there is no folder {path.absolute().parent} for {path.name}: make it first")
    build(options.workload_of(given, ["enterprise"]))


def _keep(result: dict[str, Any], given: options.Arguments) -> None:
    if given.out is not None:
        given.out.write_text(json.dumps(result, allow_nan=False) + "\n", encoding="utf-8")
    if given.html is not None:
        given.html.write_text(page(result), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------- progress
@contextmanager
def _status(text: str, is_quiet: bool) -> Iterator[None]:
    with Console(stderr=True, quiet=is_quiet).status(text):
        yield


@contextmanager
def _progress(is_quiet: bool, total: int) -> Iterator[Progress]:
    console = Console(stderr=True, quiet=is_quiet)
    with console.status("Starting the generators …") as status:

        def tell(outcomes: Sequence[Outcome], at_s: float) -> None:
            first = sorted(each.first_audio_s for each in outcomes if each.first_audio_s is not None)
            heard = (
                f", first audio p50 {quantile(first, 0.5):.3f} s, p95 {quantile(first, 0.95):.3f} s" if first else ""
            )
            status.update(f"{max(at_s, 0):.0f} s: {len(outcomes)} of {total} have ended{heard}")

        yield tell


if __name__ == "__main__":
    raise SystemExit(main())
