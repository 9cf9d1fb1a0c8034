"""What a replica's start takes, stage by stage: each in a process of its own, made and started as Serve does it.

``python -m benchmarks.cold_start --model small --random-weights --repeats 3``: a checkpoint of float32 is written to a
temporary folder, as models are published; one process after the other starts the class of the replica with the settings
of ``serve_config.yaml``, makes two tracks of a second, and ends. The stages are those of the replica's own metric
``tutti_replica_startup_seconds``, but for the first: here it is the time since the process was asked for. What is left
of the whole is "rest". Ray's choice of a machine, and its own part of a replica's process, come on top.

The budget is the policy's ``cold_start_s`` for that size. The last line is one JSON object. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from models.catalog import resolve
from models.engine_config import WEIGHT_FORMATS
from models.errors import TuttiError

REPOSITORY = Path(__file__).resolve().parents[1]
SIZES = ("tiny", "small", "medium", "large")
_TRACKS, _TRACK_S = 2, 1.0
_BAR = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in fresh processes, and return the exit code: 0 within the budget, 1 above it or failed."""
    options = _parser().parse_args(arguments)
    if options.here is not None:
        print(json.dumps(start(json.loads(options.here))))
        return 0
    budget_s, engine = _configured(options.size or options.model)
    settings = engine | {"weights": options.weights, "num_threads": options.threads, "max_rows": options.rows}
    try:
        with _folder(options) as folder:
            starts = [_fresh(folder, settings, options) for _ in range(options.repeats)]
    except TuttiError as error:
        print(error, file=sys.stderr)
        return 1
    about = {"model": options.model, "weights": options.weights, "cold": options.cold, "compile": options.compile}
    result = about | summary(starts, budget_s)
    print(*lines(result), json.dumps(result), sep="\n")
    return 0 if result["within_budget"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description="A replica's start on a CPU.")
    parser.add_argument("--model", default="tiny", help="'tiny', a checkpoint folder, or a size with --random-weights")
    parser.add_argument("--random-weights", action="store_true", help=f"of a published size: {', '.join(SIZES)}")
    parser.add_argument("--size", choices=SIZES, help="whose budget and settings count for a folder (default: tiny's)")
    parser.add_argument(
        "--weights", choices=WEIGHT_FORMATS, default="int8", help="format of our weights (default int8)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--rows", type=int, default=8, help="rows per step (default 8)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="starts (default 5); the median is shown")
    parser.add_argument("--cold", action="store_true", help="drop the weights from the page cache before every start")
    parser.add_argument("--compile", action="store_true", help="every start compiles the CPU kernel anew")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    return parser


def _configured(size: str) -> tuple[float, dict[str, Any]]:
    """Budget in seconds and engine settings of a size in ``serve_config.yaml``; any other name is taken as tiny."""
    application = yaml.safe_load((REPOSITORY / "serve_config.yaml").read_text(encoding="utf-8"))["applications"][0]
    size = size if size in SIZES else "tiny"
    budget_s = application["autoscaling_policy"]["policy_kwargs"]["models"][size]["cold_start_s"]
    engine = application["args"]["models"]["tiny"]["engine"]  # the others' are for GPUs
    return float(budget_s), dict(engine)


@contextmanager
def _folder(options: argparse.Namespace) -> Iterator[Path]:
    """The checkpoint on disk."""
    if not options.random_weights:
        yield resolve(options.model)
        return
    from benchmarks.weights import random_weights

    with tempfile.TemporaryDirectory() as name:
        with random_weights(options.model, "cpu", 0) as weights:
            weights.theirs.save_pretrained(name)
            weights.tokenizer.save_pretrained(name)
        del weights
        yield Path(name)


def _fresh(folder: Path, settings: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One start.

    Raises:
        CalledProcessError: it failed; standard error says why.
    """
    if options.cold:
        forget(folder)
    with tempfile.TemporaryDirectory() as empty:
        environment = (
            os.environ | {"TUTTI_LOG_LEVEL": "warning"} | ({"TUTTI_KERNEL_CACHE": empty} if options.compile else {})
        )
        asked = json.dumps({"folder": str(folder), "engine": dict(settings), "asked_at": time.monotonic()})
        command = [sys.executable, "-m", "benchmarks.cold_start", "--here", asked]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=REPOSITORY)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def forget(folder: Path) -> None:
    """Let the page cache forget a checkpoint's files, as far as no process has them mapped."""
    for file in sorted(folder.iterdir()):
        if file.is_file():
            with file.open("rb") as stream:
                os.fdatasync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def start(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Start a replica's class and make two tracks. For a process that has done nothing else.

    Args:
        asked: folder of the checkpoint, keyword arguments of EngineConfig, and when (``time.monotonic``, which all
            processes of a machine share) this process was asked for.
    """
    from deployments.generator import MusicGenerator

    called_at = time.monotonic()
    replica = MusicGenerator("cold-start", asked["folder"], dict(asked["engine"]))
    whole_s = time.monotonic() - asked["asked_at"]
    stages = dict(replica.start.stages) | {"process": called_at - asked["asked_at"]}
    read = _read_bytes()
    try:
        first_audio_s = [asyncio.run(_first_audio(replica, str(index))) for index in range(_TRACKS)]
    finally:
        replica.__del__()
    rest_s = whole_s - sum(stages.values())
    return {"stages": stages | {"rest": rest_s}, "whole_s": whole_s, "read_bytes": read, "first_audio_s": first_audio_s}


async def _first_audio(replica: Any, name: str) -> float:
    """Seconds until the first piece of a track with a prompt of its own; the rest is made too."""
    from models.types import GenerationRequest

    asked_at, heard_at = time.perf_counter(), None
    async for _ in replica.generate(GenerationRequest(name, f"calm piano {name}", _TRACK_S)):
        heard_at = heard_at or time.perf_counter()
    assert heard_at is not None, "a track without audio: this is a bug"
    return heard_at - asked_at


def _read_bytes() -> int:
    """What this process has had read from storage, rather than from the page cache."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    return int(counts["read_bytes"])


def summary(starts: Sequence[Mapping[str, Any]], budget_s: float) -> dict[str, Any]:
    """Medians over the starts, and whether the median of the whole is within the budget."""
    heard = [each["first_audio_s"] for each in starts]
    wholes = [each["whole_s"] for each in starts]
    stages = {name: statistics.median(each["stages"][name] for each in starts) for name in starts[0]["stages"]}
    return {
        "benchmark": "cold_start",
        "starts": len(starts),
        "whole_s": {"median": statistics.median(wholes), "min": min(wholes), "max": max(wholes)},
        "stages_s": stages,
        "first_audio_s": [statistics.median(times) for times in zip(*heard, strict=True)],
        "read_bytes": statistics.median(each["read_bytes"] for each in starts),
        "budget_s": budget_s,
        "within_budget": statistics.median(wholes) <= budget_s,
    }


def lines(result: Mapping[str, Any]) -> list[str]:
    """To be read by people: every bar begins where the one above it ends."""
    whole = result["whole_s"]
    total = max(sum(result["stages_s"].values()), 1e-9)
    told, passed = [], 0.0
    for name, seconds in result["stages_s"].items():
        begin, end = (round(_BAR * min(1.0, max(0.0, at) / total)) for at in (passed, passed + seconds))
        told.append(f"  {name:10} {seconds:7.2f} s  |{' ' * begin}{'█' * max(0, end - begin):{_BAR - begin}}|")
        passed += seconds
    first, second = (f"{1000 * seconds:,.0f} ms" for seconds in result["first_audio_s"])
    within = "within" if result["within_budget"] else "ABOVE"
    conditions = [
        f"{result['starts']} starts",
        f"weights {'not in' if result['cold'] else 'in'} the page cache",
        f"kernel {'compiled anew' if result['compile'] else 'kept'}",
        f"{result['read_bytes'] / 1e6:,.0f} MB read from storage",
    ]
    spread = f"[{whole['min']:.2f}, {whole['max']:.2f}]"
    return [
        f"{result['model']}, {result['weights']}, medians: {', '.join(conditions)}",
        *told,
        f"  {'whole':10} {whole['median']:7.2f} s  {spread}, {within} the budget of {result['budget_s']:g} s",
        f"  first audio afterwards {first}, of the next track {second}",
    ]


if __name__ == "__main__":
    sys.exit(main())
