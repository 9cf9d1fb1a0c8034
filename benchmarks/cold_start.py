"""What a replica's start takes, stage by stage: each in a process of its own, made and started as Serve does it.

``python -m benchmarks.cold_start --model small --random-weights --repeats 3``: a checkpoint of float32 is written to a
temporary folder, as models are published; one process after the other starts the class of the replica with the settings
of ``serve_config.yaml``, makes two tracks of a second, and ends. The stages are those of the replica's own metric
``tutti_replica_startup_seconds``, but for the first: here it is the time since the process was asked for. What is left
of the whole is "rest". Ray's choice of a machine, and its own part of a replica's process, come on top.

Weights are packed by the first start and kept in a temporary folder, from which all others map them: "map" and "pack".
``--cache`` says which starts are measured: ``kept`` (all others), ``new`` (the first, each in a folder of its own),
``off`` (each packs for itself) or ``compare``: each of the three in turns, and the ratio of their medians. With
``--together 2`` so many start at the same time, and what they have in memory is told while all of them run.

The budget is the policy's ``cold_start_s`` for that size. The last line is one JSON object. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cold_start_report import lines, ratios, summary
from models.catalog import resolve
from models.engine_config import WEIGHT_FORMATS
from models.errors import TuttiError
from models.packed.cache import SUFFIX

REPOSITORY = Path(__file__).resolve().parents[1]
SIZES = ("tiny", "small", "medium", "large")
CACHES = ("off", "new", "kept")
_TRACKS, _TRACK_S = 2, 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in fresh processes, and return the exit code: 0 within the budget, 1 above it or failed."""
    options = _parser().parse_args(arguments)
    if options.here is not None:
        found, replica = start(json.loads(options.here))
        print(json.dumps(found), flush=True)
        sys.stdin.read()  # whoever asked looks at this process first
        replica.__del__()
        return 0
    budget_s, engine = _configured(options.size or options.model)
    settings = engine | {"weights": options.weights, "num_threads": options.threads, "max_rows": options.rows}
    about = {"model": options.model, "weights": options.weights, "cold": options.cold, "compile": options.compile}
    try:
        with _folder(options) as folder:
            starts = _measured(folder, settings, options)
    except TuttiError as error:
        print(error, file=sys.stderr)
        return 1
    results = [about | {"cache": cache} | summary(found, budget_s) for cache, found in starts.items()]
    for result in results:
        print(*lines(result), json.dumps(result), sep="\n")
    if len(results) > 1:
        print(json.dumps(ratios(results)))
    return 0 if all(result["within_budget"] for result in results) else 1


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
    parser.add_argument(
        "--cache", choices=(*CACHES, "compare"), default="kept", help="of packed weights (default kept)"
    )
    parser.add_argument("--together", type=int, default=1, metavar="N", help="processes that start at once (default 1)")
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


def _measured(
    folder: Path, settings: Mapping[str, Any], options: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """The starts of each kind, which take turns; what is "kept" has been packed by one that is not measured."""
    kinds = CACHES if options.cache == "compare" else (options.cache,)
    starts: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as kept:
        if "kept" in kinds:
            _at_once(folder, settings, argparse.Namespace(**(vars(options) | {"together": 1})), Path(kept), "kept")
        for _ in range(options.repeats):
            for kind in kinds:
                with tempfile.TemporaryDirectory() as new:
                    place = Path(kept if kind == "kept" else new)
                    starts[kind] += _at_once(folder, settings, options, place, kind)
    return starts


def _at_once(
    folder: Path, settings: Mapping[str, Any], options: argparse.Namespace, cache: Path, kind: str
) -> list[dict[str, Any]]:
    """So many processes from the same moment on.

    Raises:
        CalledProcessError: one failed; standard error says why.
    """
    if options.cold:
        for each in (folder, cache):
            forget(each)
    before = set(cache.iterdir())
    with tempfile.TemporaryDirectory() as empty, ExitStack() as running:
        environment = os.environ | {"TUTTI_LOG_LEVEL": "warning", "TUTTI_WEIGHT_CACHE": str(cache)}
        environment |= {"TUTTI_KERNEL_CACHE": empty} if options.compile else {}
        environment |= {"TUTTI_WEIGHT_CACHE_GB": "0"} if kind == "off" else {}
        asked = json.dumps({"folder": str(folder), "engine": dict(settings), "asked_at": time.monotonic()})
        command = [sys.executable, "-m", "benchmarks.cold_start", "--here", asked]
        processes = [
            running.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPOSITORY
                )
            )
            for _ in range(options.together)
        ]
        found = [_answer(process) for process in processes]
        memory = [memory_of(process.pid) for process in processes]  # of each while all run
        for process in processes:
            process.communicate()
    found_there = "mapped" if set(cache.iterdir()) == before else "packed, kept and mapped"
    return [
        each | {"weights": found_there if each["mapped"] else "packed by each start", "memory": held}
        for each, held in zip(found, memory, strict=True)
    ]


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its one line; it then waits until its standard input ends."""
    assert process.stdout is not None, "opened as a pipe"
    line = process.stdout.readline()
    if not line:
        raise subprocess.CalledProcessError(process.wait(), "a start")
    found: dict[str, Any] = json.loads(line)
    return found


def memory_of(pid: int) -> dict[str, int]:
    """Bytes of a process: resident, its share of them (each page divided by the number of its holders), and what it
    has for itself."""
    content = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    told = dict(line.split(":", 1) for line in content.splitlines()[1:])
    kib = {name: int(value.split()[0]) for name, value in told.items()}
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"resident": kib["Rss"] << 10, "share": kib["Pss"] << 10, "private": private << 10}


def forget(folder: Path) -> None:
    """Let the page cache forget a checkpoint's files, as far as no process has them mapped."""
    for file in sorted(folder.iterdir()):
        if file.is_file():
            with file.open("rb") as stream:
                os.fdatasync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def start(asked: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Start a replica's class and make two tracks; what was found, and the replica. For a process that has done nothing
    else.

    Args:
        asked: folder of the checkpoint, keyword arguments of EngineConfig, and when (``time.monotonic``, which all
            processes of a machine share) this process was asked for.
    """
    from deployments.generator import MusicGenerator

    called_at = time.monotonic()
    replica = MusicGenerator("cold-start", asked["folder"], dict(asked["engine"]))
    whole_s = time.monotonic() - asked["asked_at"]
    stages = dict(replica.start.stages) | {"process": called_at - asked["asked_at"]}
    processor_s, read = time.process_time(), _read_bytes()
    first_audio_s = [asyncio.run(_first_audio(replica, str(index))) for index in range(_TRACKS)]
    rest_s = whole_s - sum(stages.values())
    found = {"stages": stages | {"rest": rest_s}, "whole_s": whole_s, "processor_s": processor_s, "read_bytes": read}
    mapped = any(line.endswith(SUFFIX) for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines())
    return found | {"first_audio_s": first_audio_s, "mapped": mapped}, replica


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


if __name__ == "__main__":
    sys.exit(main())
