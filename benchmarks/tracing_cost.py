"""What traces cost: processor time of a request without them, with them, and with them recorded.

``python -m benchmarks.tracing_cost``. A gateway and a worker as processes of their own make the same generations at the
same times with each setting, in turns, so that what else the machine does falls on all alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import timeit
from statistics import median
from typing import Any

from api import tracing
from benchmarks.api.arrivals import open_loop
from benchmarks.api.client import Client
from benchmarks.api.create import Creator
from benchmarks.api.platform import Load, platform
from benchmarks.arrivals import constant

SETTINGS = {
    "off": {"TUTTI_TRACING_EXPORTER": "none"},
    "on, none recorded": {"TUTTI_TRACING_EXPORTER": "console", "TUTTI_TRACING_SAMPLE_RATIO": "0"},
    "on, all recorded": {"TUTTI_TRACING_EXPORTER": "console"},
}
"""The console exporter writes every span as JSON into a file: dearer than sending it to a collector."""
_SETTLE_S = 1.5
_CALLS = 200_000


def off_call_ns() -> float:
    """Of one ``span`` around nothing, where nobody traces."""

    def call() -> None:
        with tracing.span("work", generation_id="gen_1"):
            pass

    return min(timeit.repeat(call, number=_CALLS, repeat=5)) / _CALLS * 1e9


async def cpu_ms(environment: dict[str, str], rate: float, seconds: float) -> dict[str, float]:
    """Milliseconds of processor time for each generation, from its call to its stored track."""
    async with platform(Load(speed=50.0, slots=64, environment=environment)) as running:
        client = Client(running.port)
        creator = Creator(running, client, duration_s=0.5)
        await open_loop(constant(rate, 2.0), creator.send)  # connections, statements, caches
        await asyncio.sleep(_SETTLE_S)
        creator.take()
        before = running.cpu_s()
        await open_loop(constant(rate, seconds), creator.send)
        await asyncio.sleep(_SETTLE_S)
        after, made = running.cpu_s(), len(creator.take())
        client.close()
    return {name: 1000 * (after[name] - before[name]) / made for name in ("gateway", "worker")}


def measure(rate: float, seconds: float, rounds: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(rounds):
        for name, environment in SETTINGS.items():
            runs[name].append(asyncio.run(cpu_ms(environment, rate, seconds)))
    found = {
        name: {part: round(median(each[part] for each in seen), 2) for part in ("gateway", "worker")}
        for name, seen in runs.items()
    }
    return {"off_call_ns": round(off_call_ns(), 1), "cpu_ms_per_generation": found, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=20.0, help="generations a second")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(json.dumps(measure(args.rate, args.seconds, args.rounds)))


if __name__ == "__main__":
    main()
