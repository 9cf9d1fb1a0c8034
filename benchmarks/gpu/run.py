"""The parts of ``benchmarks/gpu.sh`` in their order, and the table at the end."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu import correctness, speed
from benchmarks.gpu.graph_engine import graph_model
from benchmarks.gpu.parts import Run
from benchmarks.weights import SHAPES, random_weights
from models.catalog import TINY_PATH
from models.checkpoint import load_checkpoint
from models.engine.loader import LoadedModel
from models.musicgen.static_decoder import StaticOptions

BUDGET_S = 520.0
# Streams of a saturated step, and listeners that should be served without an underrun (the goals).
SATURATED = {"tiny": 8, "small": 256, "medium": 128, "large": 96}
LISTENERS = {"tiny": 4, "small": 330, "medium": 110, "large": 80}
BEST = StaticOptions("triton", "triton")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every part ran; 1: some failed or were skipped. The result is written either way."""
    options = _parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options.out / f"gpu-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json", options.budget)
    run.part("machine", 0, lambda: _machine(options.device))
    _check(run, options)
    run.part("ceilings", 5, lambda: speed.ceilings(options.device, options.quick))
    for shape in options.shape:
        _measure_shape(run, options, shape)
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
    frames = 12 if options.quick else 60
    variants = [StaticOptions("sdpa", "torch")]
    if options.device != "cpu":  # on a CPU the kernels are interpreted, which is for tests
        variants += [StaticOptions("triton", "torch"), BEST, StaticOptions("triton", "triton", "int8")]

    def small() -> dict[str, Any]:
        with random_weights("tiny", "cpu", 0) as weights:
            return correctness.check(weights.checkpoint, options.device, variants, frames)

    run.part("correct.random", 20 if not options.quick else 0, small)
    if (TINY_PATH / "config.json").is_file() and not options.quick:
        tiny = load_checkpoint(TINY_PATH)
        run.part("correct.tiny", 20, lambda: correctness.check(tiny, options.device, variants, frames))


def _variants(device: str) -> Iterator[tuple[str, StaticOptions]]:
    if device == "cpu":
        yield "sdpa", StaticOptions("sdpa", "torch")
        return
    yield "best", BEST
    yield "torch layers", StaticOptions("triton", "torch")
    yield "int8 kv", StaticOptions("triton", "triton", "int8")
    yield "sdpa", StaticOptions("sdpa", "triton")
    yield "xformers", StaticOptions("xformers", "triton")


def _measure_shape(run: Run, options: argparse.Namespace, shape: str) -> None:
    device, quick = options.device, options.quick
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with random_weights(shape, device, 0) as weights:
        for name, static in _variants(device):
            _measure_steps(run, f"{shape}.{name}", _sizes(shape, name, quick), weights.checkpoint, options, static)
        first, model = next(_variants(device))[1], dict[str, LoadedModel]()

        def best() -> LoadedModel:
            if not model:
                model["best"] = graph_model(weights.checkpoint, device, dtype, first)
            return model["best"]

        run.part(f"{shape}.first_audio", 5, lambda: speed.first_audio(best(), device, dtype, 2 if quick else 9))
        count, length = (2, 1.0) if quick else (LISTENERS[shape], 12.0)
        limit_s = 60.0 if quick else 25.0
        run.part(f"{shape}.listeners", 5, lambda: speed.listeners(best(), device, dtype, count, length, limit_s))
        model.clear()
        _release(device)
        weights.theirs.to(dtype)
        for batch in (1,) if quick else (1, 32):
            run.part(
                f"{shape}.transformers.{batch}",
                5 if quick else 25,
                partial(_transformers, weights, device, batch, 10 if quick else 100),
            )
    _release(device)


def _sizes(shape: str, name: str, quick: bool) -> tuple[int, ...]:
    if quick:
        return (1, 2)
    return (1, 8, SATURATED[shape]) if name in ("best", "int8 kv") else (1, SATURATED[shape] // 4)


def _measure_steps(
    run: Run, name: str, sizes: Sequence[int], checkpoint: Any, options: argparse.Namespace, static: StaticOptions
) -> None:
    device = options.device
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    seconds, calls = (1.0, 2) if options.quick else (30.0, 30)

    def measure(streams: int) -> dict[str, float]:
        model = graph_model(checkpoint, device, dtype, static)
        return speed.step_times(model, device, dtype, streams, seconds, calls)

    for streams in sizes:
        run.part(f"{name}.{streams}", 5 if options.quick else 12, partial(measure, streams))
        _release(device)


@torch.inference_mode()
def _transformers(weights: Any, device: str, batch: int, steps: int) -> dict[str, float]:
    """``generate`` with its defaults on the same weights, sampled and guided; one short run warms it up."""
    prompts = [f"warm bass, soft drums and a slow melody, take {index:03d}" for index in range(batch)]
    inputs = {name: tensor.to(device) for name, tensor in weights.tokenizer(prompts, return_tensors="pt").items()}
    inputs.pop("token_type_ids", None)
    run = {"do_sample": True, "top_k": 250, "guidance_scale": 3.0}
    weights.theirs.generate(**inputs, **run, max_new_tokens=6)
    speed.synchronize(device)
    begin = time.perf_counter()
    weights.theirs.generate(**inputs, **run, max_new_tokens=steps + 3)
    speed.synchronize(device)
    wall_s = time.perf_counter() - begin
    rate = weights.config.frame_rate
    return {"streams": batch, "ms_per_step": 1e3 * wall_s / steps, "audio_s_per_s": batch * steps / rate / wall_s}


def _release(device: str) -> None:
    if device != "cpu":
        torch.cuda.empty_cache()


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
