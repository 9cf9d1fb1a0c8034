"""``python -m autoscaling.simulator``: the table of ``autoscaling.simulator.study``, with ``--sharing`` that of
``autoscaling.simulator.sharing``, and with ``--replicas`` how long it takes; the last line is JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from autoscaling.simulator.replica import Profile
from autoscaling.simulator.scale import Traffic
from autoscaling.simulator.sharing import Row as Shared
from autoscaling.simulator.sharing import compare
from autoscaling.simulator.sharing import table as sharing_table
from autoscaling.simulator.study import Row, study, table
from autoscaling.simulator.workload import Diurnal, poisson, read_trace


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; exits with 2 and a sentence where the arguments or a trace are wrong."""
    arguments = _parser().parse_args(argv)
    if arguments.sharing:
        return _sharing(arguments)
    if arguments.replicas:
        return _scale(arguments)
    try:
        profile = Profile.from_measured(arguments.streams, arguments.one, arguments.many, arguments.streams)
        arrivals = _arrivals(arguments)
    except (OSError, ValueError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for row in study(
        arrivals, profile, arguments.cold_start, arguments.seed, grid=arguments.grid, leaving=arguments.leaving
    ):
        print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
        rows.append(row)
    print(table(rows))
    print(
        json.dumps({"study": "autoscaling", "schema": 1, "rows": [{**asdict(row), "meets": row.meets} for row in rows]})
    )
    return 0


def _sharing(arguments: argparse.Namespace) -> int:
    if min(arguments.sharing) <= 0 or arguments.hours <= 0 or not 0 <= arguments.loss < 1:
        print("simulator: rates and hours above 0 and a loss from 0 to below 1 are wanted", file=sys.stderr)
        return 2
    pairs: list[tuple[Shared, Shared]] = []
    for rate in arguments.sharing:
        print(f"{rate:g} requests a second …", file=sys.stderr, flush=True)
        pairs.append(compare(rate, arguments.hours, arguments.loss, arguments.seed))
    print(sharing_table(pairs))
    rows = [{**asdict(row), "meets": row.meets} for pair in pairs for row in pair]
    print(json.dumps({"study": "sharing", "schema": 1, "loss": arguments.loss, "rows": rows}))
    return 0


def _scale(arguments: argparse.Namespace) -> int:
    if arguments.replicas < 1 or arguments.requests < 1:
        print("simulator: --replicas and --requests are at least 1", file=sys.stderr)
        return 2
    traffic = Traffic.for_replicas(arguments.replicas, arguments.requests, arguments.seed)
    print(f"{len(traffic.requests):,} requests in {traffic.duration_s:.0f} s …", file=sys.stderr, flush=True)
    began = time.process_time()
    done = traffic.simulate()
    took_s = time.process_time() - began
    print(done.in_words())
    print(f"{took_s:.0f} s of one core, {1e6 * took_s / done.events:.1f} µs per event")
    print(json.dumps({"study": "scale", "schema": 1, "took_s": round(took_s, 1), **asdict(done)}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m autoscaling.simulator", description=__doc__)
    parser.add_argument("--trace", action="append", default=[], metavar="NAME=CSV", help="column arrival_s, seconds")
    parser.add_argument("--hours", type=float, default=24, help="of the day that is drawn; 0: none")
    parser.add_argument("--rate", type=float, default=1.5, help="requests per second of that day, on average")
    parser.add_argument("--leaving", type=float, default=0.0, help="fraction whose client leaves before the end")
    parser.add_argument("--poisson", type=float, default=0.0, help="also so many requests a second for an hour")
    parser.add_argument("--cold-start", type=float, nargs="+", default=[15, 30, 60, 120], help="seconds")
    parser.add_argument("--streams", type=int, default=8, help="that a replica serves at once")
    parser.add_argument("--one", type=float, default=10, help="audio-seconds per second of one stream alone")
    parser.add_argument("--many", type=float, default=30, help="the same of all streams in sum")
    parser.add_argument("--grid", action="store_true", help="also search Ray's settings for each workload")
    parser.add_argument("--sharing", type=float, nargs="+", metavar="RATE", help="GPUs shared by sizes, at these rates")
    parser.add_argument("--loss", type=float, default=0.1, help="of its share that a replica loses to its neighbours")
    parser.add_argument(
        "--replicas", type=int, metavar="N", help="one traffic that needs so many, and the time it takes"
    )
    parser.add_argument("--requests", type=int, default=3_000_000, help="of that traffic")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _arrivals(arguments: argparse.Namespace) -> dict[str, list[float]]:
    arrivals: dict[str, list[float]] = {}
    if arguments.hours > 0:
        period_s = arguments.hours * 3600
        day = Diurnal.with_crowds(arguments.rate, period_s)
        arrivals["day with crowds"] = day.arrivals(period_s, arguments.seed)
    if arguments.poisson > 0:
        arrivals["Poisson"] = poisson(arguments.poisson, 3600, arguments.seed)
    for each in arguments.trace:
        name, equals, path = each.partition("=")
        if not equals:
            raise ValueError(f"--trace wants NAME=CSV, got {each!r}")
        arrivals[name] = read_trace(Path(path))
    if not arrivals:
        raise ValueError("nothing to simulate: give --hours, --poisson or --trace")
    return arrivals


if __name__ == "__main__":
    sys.exit(main())
