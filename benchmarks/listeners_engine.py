"""The real engine and the tiny model, with virtual players: a burst of listeners where others are ahead of theirs.

The tiny model is far faster than real time, so players listen faster too: the clock the engine and the players see is
the processor time of this process, on one thread, times a factor that makes a chosen number of rows take real time.
What is shared out is real work, and what else the machine does meanwhile does not matter.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.listener_simulation import Arrival, Player
from models.catalog import TINY_PATH
from models.engine.engine import Engine
from models.engine.loader import LoadedModel, load_model
from models.engine_config import EngineConfig
from models.errors import TuttiError
from models.types import GenerationRequest

STALL_FREE_S = 0.05
MAX_ROWS = 32
REAL_TIME_ROWS = 18
EARLY, EARLY_S = 4, 12.0
LATE, LATE_S = 3, 4.0
AHEAD_S = 7.0
"""The burst comes when the early ones have so much of their music: they are ahead of what they have heard of it."""
ROUNDS = 2
OPENING = 60  # steps


@dataclass(slots=True)
class FastClock:
    """Seconds of the players: of processor time, times a factor."""

    factor: float

    def __call__(self) -> float:
        return time.process_time() * self.factor


def measured() -> dict[str, Any]:
    """Both policies in turn on the same weights, rounds of the same traffic."""
    model = load_model(TINY_PATH, EngineConfig())
    step_s = _step_s(model)
    factor = 1 / (model.config.frame_rate * step_s)
    print(
        f"Engine: a step of {REAL_TIME_ROWS} rows takes {1e3 * step_s:.2f} ms; players listen {factor:.2f} × real time."
    )
    players: dict[bool, list[Player]] = {True: [], False: []}
    for turn in range(ROUNDS):
        for pauses in (turn % 2 == 0, turn % 2 != 0):
            players[pauses] += _play(model, factor, pauses, turn)
    served = {pauses: sum(each.stall_s <= STALL_FREE_S for each in heard) for pauses, heard in players.items()}
    total = len(players[True])
    for pauses, heard in players.items():
        stall_s = sum(each.stall_s for each in heard)
        name = "pausing" if pauses else "not pausing"
        print(f"{name:12} stall-free {served[pauses]:3d} of {total}, stalls {stall_s:.2f} s in sum")
    return {
        "step_s": step_s,
        "factor": factor,
        "listeners": total,
        "stall_free": {"pausing": served[True], "not pausing": served[False]},
        "stall_s": {
            "pausing": sum(each.stall_s for each in players[True]),
            "not pausing": sum(each.stall_s for each in players[False]),
        },
        "ratio": round(served[True] / served[False], 3) if served[False] else None,
    }


def _request(name: str, duration_s: float, seed: int) -> GenerationRequest:
    return GenerationRequest(name, f"piano in C major, 125 bpm, take {name}", duration_s, seed)


def _step_s(model: LoadedModel) -> float:
    """The mean step of so many rows, codec included: what a listener has to wait for on the whole."""
    engine, taken = Engine(model, EngineConfig(max_rows=MAX_ROWS, num_threads=1)), []
    for index in range(REAL_TIME_ROWS // 2):
        engine.add(_request(str(index), EARLY_S, index))
    for _ in range(4 * OPENING):
        began = time.process_time()
        engine.step()
        taken.append(time.process_time() - began)
    return fmean(taken[OPENING:])


def _play(model: LoadedModel, factor: float, pauses: bool, turn: int) -> list[Player]:
    clock = FastClock(factor)
    config = EngineConfig(max_rows=MAX_ROWS, num_threads=1, pause_rows=pauses)
    engine = Engine(model, config, clock)
    players: dict[str, Player] = {}

    def arrive(kind: str, count: int, duration_s: float) -> None:
        for index in range(count):
            name = f"{kind} {index}"
            players[name] = Player(Arrival(clock(), duration_s), config.prebuffer_s)
            engine.add(_request(name, duration_s, 100 * turn + index))

    arrive("early", EARLY, EARLY_S)
    while engine.has_work:
        if len(players) == EARLY and all(each.received_s >= AHEAD_S for each in players.values()):
            arrive("late", LATE, LATE_S)
        for output in engine.step():
            if isinstance(output.news, TuttiError):
                raise output.news
            players[output.request_id].receive(output.news.duration_s, clock())
    return list(players.values())
