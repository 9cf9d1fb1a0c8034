"""Arguments that ``tutti bench engine`` and ``tutti bench peers`` share, and what they set up."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from benchmarks.formats import EXACT, FORMATS, engine_config
from benchmarks.peers.registry import parse_peers
from benchmarks.weights import SHAPES, Weights, random_weights, weights_of_folder
from models.catalog import TINY, TINY_PATH, resolve
from models.config import MAX_DURATION_S
from models.errors import TuttiError

SHORTEST_S = 0.5
STDOUT = Path("-")

Settings = argparse.Namespace


def add_shared(parser: argparse.ArgumentParser) -> None:
    """What to measure, with what, and where the results go."""
    parser.add_argument("--model", help="'tiny' (the default), a checkpoint folder, or a size with --random-weights")
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help=f"make a checkpoint of a published size in memory: --model {', '.join(SHAPES)}",
    )
    parser.add_argument("--weights", choices=FORMATS, default=EXACT, help=f"format of our weights (default {EXACT})")
    parser.add_argument("--duration", type=float, default=4.0, metavar="S", help="of the longest stream (default 4)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each pair of sides (default 3)")
    parser.add_argument(
        "--budget-s", type=float, default=60.0, help="seconds a peer may take for one workload (default 60)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads of all sides (default: torch's choice)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    parser.add_argument("--seed", type=int, default=0, help="of random weights and arrivals (default 0)")
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=STDOUT,
        metavar="PATH",
        help="print nothing but the JSON line; with a path, also write it there and print the rest, too",
    )
    parser.add_argument("--html", type=Path, metavar="PATH", help="also write a page with charts")


def problem(options: Settings, families: Mapping[str, object]) -> str | None:
    """What is wrong with the arguments, or None. Turns ``--peers`` into names."""
    if not SHORTEST_S <= options.duration <= MAX_DURATION_S:
        return f"argument --duration: must be from {SHORTEST_S:g} to {MAX_DURATION_S:g}, got {options.duration:g}"
    if not options.budget_s > 0:
        return f"argument --budget-s: must be above 0, got {options.budget_s:g}"
    for name in ("batch", "repeats", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            return f"argument --{name}: must be at least 1, got {value}"
    for name in ("json", "html"):
        path = getattr(options, name)
        if path is not None and not path.absolute().parent.is_dir():
            return f"argument --{name}: there is no folder {path.absolute().parent}; make it first"
    return _problem_of_model(options) or _problem_of_peers(options, families)


def _problem_of_model(options: Settings) -> str | None:
    try:
        engine_config(options.weights, device=options.device)
        if options.random_weights:
            if options.model not in (None, *SHAPES):
                return f"argument --random-weights: --model must be one of {', '.join(SHAPES)}, got {options.model!r}"
        elif options.model in SHAPES and options.model != TINY:
            return f"argument --model: no weights of {options.model!r} here: give a folder, or add --random-weights"
        elif options.model is not None:
            resolve(options.model)
    except TuttiError as error:
        return str(error)
    if options.device != "cpu" and not torch.cuda.is_available():
        return f"argument --device: {options.device} is not there: this torch sees no CUDA device; use cpu"
    return None


def _problem_of_peers(options: Settings, families: Mapping[str, object]) -> str | None:
    try:
        options.peers = parse_peers(options.peers, families)
    except ValueError as error:
        return f"argument --peers: {error}"
    return None


@contextmanager
def set_up(options: Settings) -> Iterator[Weights]:
    """Threads, silence and weights for one run.

    Raises:
        CheckpointError: naming what is wrong with the model.
    """
    with _threads(options.threads), _quiet(), _weights(options) as weights:
        yield weights


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
def _weights(options: Settings) -> Iterator[Weights]:
    is_random = options.random_weights or (options.model is None and not (TINY_PATH / "config.json").is_file())
    if is_random:
        with random_weights(options.model or TINY, options.device, options.seed) as weights:
            yield weights
    else:
        yield weights_of_folder(resolve(options.model or TINY), options.device)


def about(benchmark: str, schema: int, weights: Weights, options: Settings) -> dict[str, Any]:
    """What was measured, how and on what machine: the head of the JSON line."""
    names = ("duration", "batch", "repeats", "budget_s", "seed")
    return {
        "benchmark": benchmark,
        "schema": schema,
        "model": {
            "name": weights.name,
            "parameters": sum(each.numel() for each in weights.theirs.parameters()),
            "weights": options.weights,
        },
        "settings": {name: getattr(options, name) for name in names if hasattr(options, name)},
        "machine": {
            "device": torch.cuda.get_device_name(options.device) if options.device != "cpu" else "cpu",
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }


def say(options: Settings, lines: Sequence[str]) -> None:
    """Lines for people; not with a bare ``--json``."""
    if options.json != STDOUT:
        print(*lines, sep="\n", flush=True)


def finish(options: Settings, result: Mapping[str, Any], page: str | None) -> None:
    """Write the files that were asked for, and the last line."""
    line = json.dumps(result, ensure_ascii=False)
    if options.json not in (None, STDOUT):
        options.json.write_text(line + "\n", encoding="utf-8")
    if options.html is not None and page is not None:
        options.html.write_text(page, encoding="utf-8")
    print(line, flush=True)


def fail(error: Exception) -> int:
    """Say why, and return the exit code of a run that was refused or failed."""
    print(f"Error: {error}", file=sys.stderr)
    return 1
