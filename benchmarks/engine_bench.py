"""``tutti bench engine``: the engine against transformers' ``generate`` on the same weights in the same run.

First the ceiling, then for one stream and for several of mixed lengths: steps per second, seconds of audio per second
(the real-time factor) and time to first audio, medians over runs that take turns, and the ratios. Before any of it both
sides make a short clip greedily in float32, and unless all codes are equal the comparison is refused. The last line
is one JSON object.

Needs torch, transformers and ``models/`` only: ``python -m benchmarks.engine_bench`` runs on a machine without Ray.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from benchmarks.ceiling import measure_peaks, work_of
from benchmarks.parity import check_lengths, check_parity
from benchmarks.report import SCHEMA, Case, ceiling_lines, comparison_lines, figures
from benchmarks.sides import Made, Transformers, Tutti
from benchmarks.weights import SHAPES, Weights, random_weights, weights_of_folder
from benchmarks.workload import Stream, streams_for
from models.catalog import TINY, TINY_PATH, resolve
from models.config import DTYPES, MAX_DURATION_S, EngineConfig
from models.engine.loader import LoadedModel, torch_dtype
from models.errors import TuttiError

SHORTEST_S = 0.5
PARITY_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit code: 0 done, 1 refused or failed, 2 what was asked for cannot be (from argparse)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    problem = _problem(options)
    if problem:
        parser.error(problem)
    try:
        with _threads(options.threads), _quiet(), _weights(options) as weights:
            result = _compare(weights, options)
    except (TuttiError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    line = json.dumps(result, ensure_ascii=False)
    if options.json is not None:
        options.json.write_text(line + "\n", encoding="utf-8")
    print(line, flush=True)
    return 0


# ------------------------------------------------------------------------------------------------ what is asked for


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tutti bench engine",
        description="The engine against transformers' generate, on the same weights in the same run.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        help="a checkpoint folder in transformers format, or 'tiny' (the default, where its checkpoint is present)",
    )
    which.add_argument("--shape", choices=SHAPES, help="random weights of this size instead")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the longest stream (default 4)")
    parser.add_argument("--streams", type=int, default=8, help="concurrent streams of mixed lengths (default 8)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (default 3)")
    parser.add_argument("--threads", type=int, help="CPU threads of both sides (default: torch's choice)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights of both sides")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    parser.add_argument("--seed", type=int, default=0, help="of random weights (default 0)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the JSON line to this file")
    return parser


def _problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the arguments, or None."""
    if not SHORTEST_S <= options.seconds <= MAX_DURATION_S:
        return f"argument --seconds: must be from {SHORTEST_S:g} to {MAX_DURATION_S:g}, got {options.seconds:g}"
    for name in ("streams", "repeats", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            return f"argument --{name}: must be at least 1, got {value}"
    if options.json is not None and not options.json.absolute().parent.is_dir():
        return f"argument --json: there is no folder {options.json.absolute().parent}; make it first"
    try:
        EngineConfig(device=options.device)
        if options.model is not None:
            resolve(options.model)
    except TuttiError as error:
        return str(error)
    if options.device != "cpu" and not torch.cuda.is_available():
        return f"argument --device: {options.device} is not there: this torch sees no CUDA device; use cpu"
    return None


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers warns of special tokens that MusicGen has by design, and draws progress bars."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()


@contextmanager
def _weights(options: argparse.Namespace) -> Iterator[Weights]:
    model = options.model
    if model is None and options.shape is None and (TINY_PATH / "config.json").is_file():
        model = TINY
    if model is None:
        with random_weights(options.shape or TINY, options.device, options.seed) as weights:
            yield weights
    else:
        yield weights_of_folder(resolve(model), options.device)


# ------------------------------------------------------------------------------------------------------ what is done


def _compare(weights: Weights, options: argparse.Namespace) -> dict[str, Any]:
    about = _about(weights, options)
    print(", ".join(f"{key} {value}" for key, value in about["machine"].items()))
    frames = int(options.seconds * weights.config.frame_rate)
    sets = [streams_for(count, frames, take=0) for count in dict.fromkeys((1, options.streams))]
    ours = weights.ours(options.device, torch_dtype(options.dtype))
    cases = _cases(weights, ours, options, sets)
    print(*ceiling_lines(cases, f"{weights.name}, {options.dtype}"), sep="\n", flush=True)
    codes = _refuse_different_work(weights, ours, options, sets)
    print(f"Before timing: {codes} greedy codes in float32 on both sides, all equal", flush=True)
    weights.theirs.to(torch_dtype(options.dtype))
    runs = []
    for case in cases:
        runs.append(figures(case, _run(weights, ours, options, case.streams)))
        print("", *comparison_lines(case, options.repeats, runs[-1]), sep="\n", flush=True)
    print()
    return about | {"parity": {"codes": codes, "dtype": "float32"}, "runs": runs}


def _about(weights: Weights, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "benchmark": "engine",
        "schema": SCHEMA,
        "model": {
            "name": weights.name,
            "parameters": sum(each.numel() for each in weights.theirs.parameters()),
            "dtype": options.dtype,
        },
        "settings": {name: getattr(options, name) for name in ("seconds", "streams", "repeats", "seed")},
        "machine": {
            "device": torch.cuda.get_device_name(options.device) if options.device != "cpu" else "cpu",
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }


def _cases(
    weights: Weights, ours: LoadedModel, options: argparse.Namespace, sets: Sequence[Sequence[Stream]]
) -> list[Case]:
    """What these sets of streams take, and the peaks at that size."""
    config, dtype = weights.config, torch_dtype(options.dtype)
    kv_itemsize = 4 if options.device == "cpu" else dtype.itemsize  # as the engine keeps them
    works = []
    for streams in sets:
        tokens = [len(weights.tokenizer(stream.prompt)["input_ids"]) for stream in streams]
        works.append(work_of(ours.decoder, config.codec, streams, tokens, kv_itemsize))
    peaks = measure_peaks(options.device, dtype, [work.bytes_per_step for work in works])
    return [Case(*each) for each in zip(sets, [config.frame_rate] * len(sets), works, peaks, strict=True)]


def _sides(
    weights: Weights, ours: LoadedModel, options: argparse.Namespace, dtype: str, streams: Sequence[Stream]
) -> tuple[Tutti, Transformers]:
    return (
        Tutti(ours, options.device, dtype, streams),
        Transformers(weights.theirs, weights.tokenizer, weights.config),
    )


def _refuse_different_work(
    weights: Weights, ours: LoadedModel, options: argparse.Namespace, sets: Sequence[Sequence[Stream]]
) -> int:
    """Parity of each set of streams, all shortened alike; returns the codes compared. Warms both sides up, too."""
    if options.dtype != "float32":
        ours = weights.ours(options.device, torch.float32)
    frames = int(min(PARITY_S, options.seconds) * weights.config.frame_rate)
    compared = 0
    for streams in sets:
        short = streams_for(len(streams), frames, take=-1)
        sides = _sides(weights, ours, options, "float32", short)
        compared += check_parity(*sides, short, max(weights.config.decoder.delays))
    return compared


def _run(
    weights: Weights, ours: LoadedModel, options: argparse.Namespace, streams: Sequence[Stream]
) -> list[tuple[Made, Made]]:
    """Both sides in turn, every repeat with new prompts and seeds; one short run before, to warm up."""
    tutti, theirs = _sides(weights, ours, options, options.dtype, streams)
    warm = streams_for(len(streams), int(SHORTEST_S * weights.config.frame_rate), take=-2)
    pairs = []
    for side in (tutti, theirs):
        side.make(warm)
    for take in range(options.repeats):
        wanted = streams_for(len(streams), streams[0].frames, take)
        pairs.append((tutti.make(wanted), theirs.make(wanted)))
        check_lengths(*pairs[-1], wanted)
    return pairs


if __name__ == "__main__":
    sys.exit(main())
