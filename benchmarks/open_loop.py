"""Listeners who come when they like: Poisson arrivals of mixed lengths, at 70 % of what our side can make.

Nobody waits for anybody: who is too slow builds up a queue. Every side gets the same arrivals, one side after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measure import WARM_TAKE
from benchmarks.peers.audiocraft_import import PeerMissingError
from benchmarks.peers.registry import PEER_ERRORS, SERVERS, PeerName, reason
from benchmarks.serving import Served
from benchmarks.sides import Tutti
from benchmarks.weights import Weights
from benchmarks.workload import Arrival, mean_frames, poisson_arrivals, streams_for

LOAD = 0.7
ARRIVING = 0.5  # of the budget; the rest is for those who came late
WARM_S = 0.5


def run_open_loop(
    ours: Tutti,
    weights: Weights,
    names: Sequence[PeerName],
    *,
    capacity: float,
    duration_s: float,
    budget_s: float,
    seed: int,
) -> dict[str, Any]:
    """Its part of the JSON line.

    Args:
        ours: with as many rows as the capacity was measured with.
        capacity: seconds of audio per second that our side was measured to make.
        duration_s: of the longest stream.
        budget_s: of each side.
    """
    frame_rate = weights.config.frame_rate
    frames = int(duration_s * frame_rate)
    rate = LOAD * capacity / (mean_frames(frames) / frame_rate)
    arrivals = poisson_arrivals(rate, ARRIVING * budget_s, frames, seed)
    mine = _figures(ours.serve(arrivals, budget_s), arrivals, frame_rate)
    peers = {str(name): _peer(name, weights, arrivals, budget_s, mine) for name in names}
    return {
        "workload": "poisson",
        "title": f"Poisson arrivals at {LOAD:.0%} of our capacity: {len(arrivals)} in {ARRIVING * budget_s:g} s",
        "load": LOAD,
        "capacity_realtime_factor": capacity,
        "arrivals_per_second": rate,
        "arrivals": len(arrivals),
        "limit_s": budget_s,
        **mine,
        "peers": peers,
    }


def _peer(
    name: PeerName, weights: Weights, arrivals: Sequence[Arrival], budget_s: float, mine: Mapping[str, float]
) -> dict[str, Any]:
    warm = [Arrival(0.0, stream) for stream in streams_for(1, int(WARM_S * weights.config.frame_rate), WARM_TAKE)]
    try:
        server = SERVERS[name.family](weights, name.dtype)
        server.serve(warm, budget_s)
        theirs = _figures(server.serve(arrivals, budget_s), arrivals, weights.config.frame_rate)
    except (PeerMissingError, *PEER_ERRORS) as error:
        return {"missing": reason(error)}
    return theirs | {"first_audio_ratio": theirs["first_audio_p50_s"] / mine["first_audio_p50_s"]}


def _figures(served: Served, arrivals: Sequence[Arrival], frame_rate: int) -> dict[str, float]:
    """Who was not served by the limit counts with the time waited so far."""
    done = [
        arrival.stream.frames for arrival, at_s in zip(arrivals, served.finished_s, strict=True) if at_s is not None
    ]
    return {
        "finished_share": served.finished_share,
        "realtime_factor": sum(done) / frame_rate / served.wall_s,
        "first_audio_p50_s": served.first_audio_quantile(0.5),
        "first_audio_p95_s": served.first_audio_quantile(0.95),
        "finished_p50_s": served.finished_quantile(0.5),
        "finished_p95_s": served.finished_quantile(0.95),
    }


def open_loop_lines(result: Mapping[str, Any]) -> list[str]:
    """One table."""
    lines = [
        f"{result['title']} ({result['arrivals_per_second']:.2f} a second)",
        _line("", "finished", "× real time", "first audio p50", "p95", "all of it p50", "p95"),
        _row("tutti", result),
    ]
    for name, peer in result["peers"].items():
        lines.append(f"  {name:22}  {peer['missing']}" if "missing" in peer else _row(name, peer))
    return [*lines, "  who was not served at the end counts with the time waited until then (≥)"]


def _row(name: str, side: Mapping[str, float]) -> str:
    mark = "" if side["finished_share"] == 1 else "≥"
    times = ("first_audio_p50_s", "first_audio_p95_s", "finished_p50_s", "finished_p95_s")
    cells = [f"{mark}{side[key]:.2f} s" for key in times]
    return _line(name, f"{side['finished_share']:.0%}", f"{side['realtime_factor']:.2f}", *cells)


def _line(name: str, *cells: str) -> str:
    return f"  {name:22}" + "".join(f"{cell:>16}" for cell in cells)
