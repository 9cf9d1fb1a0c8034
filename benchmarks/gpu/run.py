"""The parts of ``benchmarks/gpu.sh`` in their order, and the table at the end."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu import correctness, speed
from benchmarks.gpu.parts import Run
from benchmarks.gpu.shape import BEST, ShapeRun
from benchmarks.gpu.variants import shortened, variant
from benchmarks.weights import SHAPES, random_weights
from models.catalog import TINY_PATH
from models.checkpoint import load_checkpoint

BUDGET_S = 520.0


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every part ran; 1: some failed or were skipped. The result is written either way."""
    options = _parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options.out / f"gpu-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json", options.budget)
    run.part("machine", 0, lambda: _machine(options.device))
    _check(run, options)
    run.part("ceilings", 5, lambda: speed.ceilings(options.device, options.quick))
    for shape in options.shape:
        ShapeRun(run, options, shape).measure()
    run.save()
    print(*_table(run.result), f"result: {run.file}", sep="\n", flush=True)
    return 1 if run.result["errors"] or run.result["skipped"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description="The engine on a GPU: right, then fast.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the script itself")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["small", "large", "medium"])
    parser.add_argument("--quick", action="store_true", help="few steps and short tracks: the figures mean nothing")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds (default %(default)g)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the result")
    return parser


def _machine(device: str) -> dict[str, str]:
    name = "cpu" if device == "cpu" else torch.cuda.get_device_name(device)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"device": name, "python": platform.python_version(), **versions}


def _check(run: Run, options: argparse.Namespace) -> None:
    variants = [variant("sdpa", "torch")]
    if options.device != "cpu":
        variants += [variant("triton", "torch"), BEST, variant("triton", "triton", "int8")]
        variants += [variant("triton", "triton", weights="int8")]

    def random() -> dict[str, Any]:
        with random_weights("tiny", "cpu", 0) as weights:
            if options.quick:
                return correctness.check(shortened(weights.checkpoint, 1.0), options.device, variants, 6)
            return correctness.check(weights.checkpoint, options.device, variants, 60)

    run.part("correct.random", 0 if options.quick else 20, random)
    if (TINY_PATH / "config.json").is_file() and not options.quick:
        tiny = load_checkpoint(TINY_PATH)
        run.part("correct.tiny", 20, lambda: correctness.check(tiny, options.device, variants, 60))


def _table(result: dict[str, Any]) -> Iterator[str]:
    yield "\n| part | streams | ms/step | audio-s/s | host ms |\n|---|---|---|---|---|"
    for name, row in result.items():
        if isinstance(row, dict) and "ms_per_step" in row:
            host = row.get("host_ms_per_step")
            yield (
                f"| {name} | {row['streams']} | {row['ms_per_step']:.3f} | {row['audio_s_per_s']:.1f} "
                f"| {'' if host is None else f'{host:.3f}'} |"
            )
    for name, tail in result["errors"].items():
        yield f"FAILED {name}: {tail[-1]}"
    if result["skipped"]:
        yield f"skipped, no time left: {', '.join(result['skipped'])}"


if __name__ == "__main__":
    raise SystemExit(main())
