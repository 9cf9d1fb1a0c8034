"""How many listeners hear their music without a stall, at equal hardware, when rows may pause and when they may not.

First on a machine whose steps take a + b × rows: the real scheduler on a virtual clock, Poisson arrivals of mixed
durations, several seeds. The answer is the highest rate at which 99 % of the listeners hear no stall and have their
beginning in time. Then on the real engine and the tiny model on this machine, both policies in turn: some tracks are
ahead of their listeners when a burst of others comes. Its size follows from step times measured in the same run, so
that it is more than this machine keeps in real time, whichever machine it is. The last line is one JSON object.

    python -m benchmarks.listeners [--json PATH] [--skip-engine]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.listener_simulation import Arrival, Player, Simulation, affine, poisson
from models.engine_config import EngineConfig

STALL_FREE_S = 0.05  # the strictest service level's
START_WITHIN_S = 2.5
OBJECTIVE = 0.99
DURATIONS_S = (5.0, 10.0, 20.0, 30.0)
SEEDS = (1, 2, 3)
UNTIL_S = 240.0
LEVEL_S, ROW_S = 0.008, 0.000375  # 32 rows, 16 guided listeners, in real time
RATES = tuple(round(0.40 + 0.05 * index, 2) for index in range(9))
POLICIES: tuple[tuple[str, bool, int], ...] = (
    ("pausing", True, 64),
    ("not pausing", False, 64),
    ("not pausing, 20 rows", False, 20),
    ("not pausing, 28 rows", False, 28),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listeners", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the JSON line to this file")
    parser.add_argument("--skip-engine", action="store_true", help="the simulation only")
    parser.add_argument("--chunk-growth", type=float, nargs="+", default=[2.0, 1.3], help="of both policies")
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {"simulation": [simulated(growth) for growth in options.chunk_growth]}
    if not options.skip_engine:
        from benchmarks.listeners_engine import measured

        result["engine"] = measured()
    line = json.dumps(result)
    if options.json is not None:
        options.json.write_text(line + "\n", encoding="utf-8")
    print(line, flush=True)
    return 0


def simulated(chunk_growth: float) -> dict[str, Any]:
    """The rates that each policy sustains, with the table printed."""
    config = EngineConfig(chunk_growth=chunk_growth)
    print(f"Simulated: {1e3 * LEVEL_S:g} ms + {1e3 * ROW_S:g} ms per row, chunks grow by {chunk_growth:g}.")
    print("Share of listeners with no stall and a beginning in time, by arrivals per second:")
    print(f"{'':24}" + "".join(f"{rate:>7.2f}" for rate in RATES))
    table: dict[str, list[float]] = {}
    for name, pauses, max_rows in POLICIES:
        table[name] = [_share_served(rate, pauses, max_rows, config) for rate in RATES]
        print(f"{name:24}" + "".join(f"{share:>7.3f}" for share in table[name]), flush=True)
    highest = {name: _highest_rate(shares) for name, shares in table.items()}
    best = max(rate for name, rate in highest.items() if name != "pausing")
    ratio = round(highest["pausing"] / best, 3) if best else None
    print(f"Arrivals per second at {OBJECTIVE:.0%}: {highest}; {ratio} × the best without pausing\n")
    return {"chunk_growth": chunk_growth, "rates": RATES, "served": table, "highest_rate": highest, "ratio": ratio}


def is_served(player: Player) -> bool:
    in_time = player.first_audio_s is not None and player.first_audio_s <= START_WITHIN_S
    return in_time and player.stall_s <= STALL_FREE_S


def _share_served(rate: float, pauses: bool, max_rows: int, config: EngineConfig) -> float:
    players: list[Player] = []
    for seed in SEEDS:
        arrivals: list[Arrival] = poisson(rate, UNTIL_S, DURATIONS_S, seed)
        players += Simulation(affine(LEVEL_S, ROW_S), max_rows, pauses, config).run(arrivals)
    return round(sum(map(is_served, players)) / len(players), 4)


def _highest_rate(shares: Sequence[float]) -> float:
    """The last of the rates before the first that misses the objective; 0 where already the lowest does."""
    return next(
        (RATES[index - 1] if index else 0.0 for index, share in enumerate(shares) if share < OBJECTIVE), RATES[-1]
    )


if __name__ == "__main__":
    sys.exit(main())
