"""The API under load: creates per second, listeners on one generation, and three times too much of everything.

    python -m benchmarks.api_load                                   # all of it, about three minutes
    python -m benchmarks.api_load --only fanout --listeners 100 500
    python -m benchmarks.api_load --only overload --seconds 30 --json report.json

A gateway behind uvicorn, a worker, a Valkey and this client are processes of their own on this machine; the database is
SQLite in a folder that is removed again. Only the music is not made: a generator hands out a fixed sound at a pace.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform as machine
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.api.arrivals import MAX_LAG_S
from benchmarks.api.create import measure_create
from benchmarks.api.fanout import measure_fanout
from benchmarks.api.overload import measure_overload
from benchmarks.api.platform import Load, platform
from benchmarks.api.table import show

PARTS = ("create", "fanout", "overload")
TRACK_S = 2.0
MUSIC = Load(speed=5.0, slots=4, max_wait_s=3.0)
"""For the overload: 10 generations of 2 s a second, and a queue of three seconds."""


async def run(parts: Sequence[str], seconds: float, listeners: Sequence[int], tracks_s: float) -> dict[str, Any]:
    """Measure these parts, each on a platform of its own."""
    found: dict[str, Any] = {}
    if "create" in parts:
        async with platform(Load(speed=5.0, slots=4)) as running:
            found["create"] = await measure_create(running, seconds)
    if "fanout" in parts:
        found["fanout"] = []
        for count in listeners:
            async with platform(Load(speed=1.0, slots=1, tenants=1)) as running:
                found["fanout"].append(await measure_fanout(running, count, tracks_s))
    if "overload" in parts:
        nominal = MUSIC.slots * MUSIC.speed / TRACK_S
        found["overload"] = {}
        async with platform(MUSIC) as running:
            found["overload"]["music"] = await measure_overload(
                running, seconds, nominal_per_s=nominal, duration_s=TRACK_S
            )
        if "create" in found:
            async with platform(MUSIC) as running:
                found["overload"]["door"] = await measure_overload(
                    running,
                    seconds,
                    nominal_per_s=nominal,
                    duration_s=TRACK_S,
                    rate_per_s=3 * found["create"]["max_per_s"],
                )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, help="overload at the door needs create, too"
    )
    parser.add_argument("--seconds", type=_positive, default=20.0, help="of each phase (20)")
    parser.add_argument("--listeners", type=_count, nargs="+", default=[100, 500, 1000], help="numbers of listeners")
    parser.add_argument("--track", type=_positive, default=10.0, help="seconds of audio that they hear (10)")
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    given = parser.parse_args(arguments)
    found = asyncio.run(run(given.only, given.seconds, given.listeners, given.track))
    report = {
        "benchmark": "api",
        "schema": 1,
        "settings": {"seconds": given.seconds, "track_s": given.track, "aim_client_lag_s": MAX_LAG_S},
        "machine": {"cpus": os.cpu_count(), "python": machine.python_version(), "load": os.getloadavg()},
        **found,
    }
    show(report)
    line = json.dumps(report)
    if given.json is not None:
        given.json.write_text(line + "\n", encoding="utf-8")
    print(line)
    return 0


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 5000:
        raise argparse.ArgumentTypeError(f"must be from 1 to 5000, got {text}")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 600, got {text}")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
