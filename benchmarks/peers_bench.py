"""``tutti bench peers``: the whole table. One stream, several of mixed lengths, and listeners who come when they like,
on our engine and on every other way to run MusicGen that is installed, with the same weights in the same run.

As ``tutti bench engine``: ceiling first, then whether all do the same work, then the tables, last one JSON line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.engine_bench import cases_of, check_work, parity_lines, run_case
from benchmarks.html_report import page
from benchmarks.open_loop import open_loop_lines, run_open_loop
from benchmarks.options import Settings, about, add_shared, fail, finish, problem, say, set_up
from benchmarks.peers.audiocraft_import import install_command
from benchmarks.peers.registry import SERVERS, SIDES, PeerName
from benchmarks.report import SCHEMA, ceiling_lines, headline
from benchmarks.sides import Tutti
from benchmarks.weights import Weights
from benchmarks.workload import streams_for
from models.errors import TuttiError

FAMILIES: Mapping[str, object] = {**SIDES, **SERVERS}
ALL = "transformers-fp32,transformers-bf16,transformers-static-bf16,audiocraft-bf16,streamer-bf16,window-bf16"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit code: 0 done, 1 refused or failed, 2 what was asked for cannot be (from argparse)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.install_hint:
        print(install_command())
        return 0
    if trouble := problem(options, FAMILIES):
        parser.error(trouble)
    try:
        with set_up(options) as weights:
            result = _run(weights, options)
    except (TuttiError, OSError) as error:
        return fail(error)
    finish(options, result, page([result]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tutti bench peers", description="The engine against every other way to run MusicGen, in one run."
    )
    add_shared(parser)
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="concurrent streams (default 8)")
    parser.add_argument("--peers", default=ALL, help=f"names with commas between them, or none (default {ALL})")
    parser.add_argument(
        "--install-hint", action="store_true", help="print the command that installs audiocraft for this benchmark"
    )
    return parser


def _run(weights: Weights, options: Settings) -> dict[str, Any]:
    head = about("peers", SCHEMA, weights, options)
    say(options, [", ".join(f"{key} {value}" for key, value in head["machine"].items())])
    cases = cases_of(weights, options, (1, options.batch))
    say(options, ceiling_lines(cases, f"{weights.name}, {options.weights}"))
    named: tuple[PeerName, ...] = options.peers
    options.peers = tuple(name for name in named if name.family in SIDES)
    peers, parity = check_work(weights, options, cases)
    say(options, parity_lines(parity))
    runs = [run_case(weights, options, case, peers) for case in cases]
    frames = int(options.duration * weights.config.frame_rate)
    streams = [streams_for(1, frames, take=0)[0]] * options.batch  # room for as many of the longest
    runs.append(
        run_open_loop(
            Tutti(weights, options.weights, options.device, streams),
            weights,
            [name for name in named if name.family in SERVERS],
            capacity=runs[-1]["realtime_factor"],
            duration_s=options.duration,
            budget_s=options.budget_s,
            seed=options.seed,
        )
    )
    say(options, ["", *open_loop_lines(runs[-1]), ""])
    loaded = {key: runs[-1][key] for key in ("first_audio_p50_s", "first_audio_p95_s")}
    return head | headline(runs) | {"time_to_first_audio_loaded_s": loaded, "parity": parity, "runs": runs}


if __name__ == "__main__":
    sys.exit(main())
