"""``tutti bench engine``: the engine against its peers, on the same weights in the same run.

First the ceiling; then a check that all sides do the same work (in float32 exactly, or the comparison is refused); then
for one stream and for several of mixed lengths: steps per second, seconds of audio per second (the real-time factor,
codec included), time to first audio; medians over runs that take turns, and ratios. The last line is one JSON object.

Needs torch, transformers and ``models/`` only: ``python -m benchmarks.engine_bench`` runs on a machine without Ray.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ceiling import measure_peaks, work_of
from benchmarks.compare import TOLERANCE, comparison, falls, read_baseline
from benchmarks.formats import EXACT, arithmetic, kv_itemsize
from benchmarks.html_report import page
from benchmarks.measure import SHORTEST_S, Peer, open_peers, take_turns
from benchmarks.options import Settings, about, add_shared, fail, finish, problem, say, set_up
from benchmarks.parity import agreement, check_parity
from benchmarks.peers.registry import ONE_AT_A_TIME, SIDES, default_peers
from benchmarks.peers.transformers_generate import Transformers
from benchmarks.report import SCHEMA, Case, ceiling_lines, comparison_lines, figures, headline
from benchmarks.sides import Tutti
from benchmarks.weights import Weights
from benchmarks.workload import streams_for
from models.errors import TuttiError

BATCHES = (1, 8)
PARITY_TAKE = -1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit code: 0 done, 1 refused, failed or fallen behind, 2 what was asked for cannot be."""
    parser = _parser()
    options = parser.parse_args(arguments)
    options.peers = options.peers or default_peers(options.weights)
    if trouble := problem(options, SIDES):
        parser.error(trouble)
    try:
        baseline = read_baseline(options.compare) if options.compare else None
        with set_up(options) as weights:
            result = _run(weights, options)
        fallen = falls(baseline, result, options.tolerance) if baseline else []
        say(options, comparison(baseline, fallen, options.tolerance) if baseline else [])
    except (TuttiError, OSError) as error:
        return fail(error)
    finish(options, result | ({"fallen": fallen} if baseline else {}), page([result]))
    return 1 if fallen else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tutti bench engine",
        description="The engine against other ways to run MusicGen, on the same weights in the same run.",
    )
    add_shared(parser)
    parser.add_argument(
        "--batch", type=int, metavar="N", help="concurrent streams of mixed lengths (default: 1, then 8)"
    )
    parser.add_argument(
        "--peers", help="names with commas between them, or none (default: transformers in our precision)"
    )
    parser.add_argument(
        "--compare", type=Path, metavar="BASELINE", help="JSON line of an earlier run; exit 1 if a ratio has fallen"
    )
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help=f"how far a ratio may fall (default {TOLERANCE:g} of it)"
    )
    return parser


def _run(weights: Weights, options: Settings) -> dict[str, Any]:
    head = about("engine", SCHEMA, weights, options)
    say(options, [", ".join(f"{key} {value}" for key, value in head["machine"].items())])
    cases = cases_of(weights, options, BATCHES if options.batch is None else (options.batch,))
    say(options, ceiling_lines(cases, f"{weights.name}, {options.weights}"))
    peers, parity = check_work(weights, options, cases)
    say(options, parity_lines(parity))
    runs = [run_case(weights, options, case, peers) for case in cases]
    say(options, [""])
    return head | headline(runs) | {"parity": parity, "runs": runs}


def cases_of(weights: Weights, options: Settings, batches: Sequence[int]) -> list[Case]:
    """What these sets of streams take, and the peaks at that size."""
    config, frames = weights.config, int(options.duration * weights.config.frame_rate)
    sets = [streams_for(count, frames, take=0) for count in batches]
    works = []
    for streams in sets:
        tokens = [len(weights.tokenizer(stream.prompt)["input_ids"]) for stream in streams]
        kv = kv_itemsize(options.weights, options.device)
        works.append(work_of(config, options.weights, streams, tokens, kv))
    sizes = [work.bytes_per_step for work in works]
    peaks = measure_peaks(options.device, arithmetic(options.weights), sizes)
    return [Case(*each) for each in zip(sets, [config.frame_rate] * len(sets), works, peaks, strict=True)]


def check_work(weights: Weights, options: Settings, cases: Sequence[Case]) -> tuple[list[Peer], dict[str, Any]]:
    """Greedy codes of all sides on short streams, before any timing; also shows which peers run.

    Returns:
        the peers; and for the report, the codes compared with transformers' float32 and how many were equal.

    Raises:
        DifferentWorkError: float32 is not equal to transformers' float32.
    """
    frames = int(SHORTEST_S * weights.config.frame_rate)
    reference = Transformers(weights, dtype=arithmetic(EXACT))
    alone = streams_for(1, frames, PARITY_TAKE)
    codes = reference.make(alone, greedy=True).codes[0]
    parity: dict[str, Any] = {"reference": "transformers-fp32"}
    if options.weights == EXACT:
        delay, compared = max(weights.config.decoder.delays), 0
        for case in cases:
            streams = streams_for(len(case.streams), frames, PARITY_TAKE)
            ours = Tutti(weights, options.weights, options.device, streams)
            compared += check_parity(ours, reference, streams, delay)
        parity |= {"codes": compared, "equal": 1.0}
    else:
        made = Tutti(weights, options.weights, options.device, alone).make(alone, greedy=True)
        parity |= agreement(made.codes[0], codes).as_dict()
    return open_peers(options.peers, weights, alone, codes), parity


def parity_lines(parity: dict[str, Any]) -> list[str]:
    """What was found before timing."""
    what = f"Before timing: of {parity['codes']} greedy codes, transformers in float32 and our side have"
    if parity["equal"] == 1:
        return [f"{what} all equal"]
    return [f"{what} {parity['equal']:.0%} equal, the first {parity['frames_until_differing']} frames throughout"]


def run_case(weights: Weights, options: Settings, case: Case, peers: Sequence[Peer]) -> dict[str, Any]:
    """One workload: all sides in turn, the table, and its part of the JSON line."""
    ours = Tutti(weights, options.weights, options.device, case.streams)
    taking_part = [peer for peer in peers if len(case.streams) == 1 or peer.name.family not in ONE_AT_A_TIME]
    measured = take_turns(ours, taking_part, case.streams, case.frame_rate, options.repeats, options.budget_s)
    result = figures(case, measured, taking_part)
    say(options, ["", *comparison_lines(result)])
    return result


if __name__ == "__main__":
    sys.exit(main())
