"""What is measured of one model size: our steps in every variant, what a listener gets, and transformers beside it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch

from benchmarks.gpu import peers, speed
from benchmarks.gpu.parts import Run
from benchmarks.gpu.variants import Variant, graph_config, shortened, variant
from benchmarks.weights import Weights, random_weights
from models.checkpoint import Checkpoint
from models.engine.loader import LoadedModel, build_model
from models.engine_config import EngineConfig

BEST = variant("triton", "triton")
VARIANTS = {
    "best": BEST,
    "torch layers": variant("triton", "torch"),
    "int8 kv": variant("triton", "triton", "int8"),
    "int8 weights": variant("triton", "triton", weights="int8"),
    "sdpa": variant("sdpa", "triton"),
    "xformers": variant("xformers", "triton"),
}
ON_A_CPU = {"sdpa": variant("sdpa", "torch")}  # there the kernels are interpreted, which is for tests

# Streams of a saturated step, and listeners that should be served without an underrun (the goals).
SATURATED = {"tiny": 8, "small": 256, "medium": 128, "large": 96}
LISTENERS = {"tiny": 4, "small": 330, "medium": 110, "large": 80}


class ShapeRun:
    """
    Args:
        options: of the command line: device and quick.
    """

    def __init__(self, run: Run, options: argparse.Namespace, shape: str) -> None:
        self._run = run
        self._device: str = options.device
        self._quick: bool = options.quick
        self._shape = shape
        self._dtype = torch.float32 if self._device == "cpu" else torch.bfloat16

    def measure(self) -> None:
        """All of it, as far as the time goes."""
        variants = ON_A_CPU if self._device == "cpu" else VARIANTS
        with random_weights(self._shape, self._device, 0) as weights:
            checkpoint = shortened(weights.checkpoint, 2.0) if self._quick else weights.checkpoint
            for name, chosen in variants.items():
                self._variant(checkpoint, name, chosen, is_first=name == next(iter(variants)))
            self._peers(weights)
        self._release()

    def _variant(self, checkpoint: Checkpoint, name: str, chosen: Variant, *, is_first: bool) -> None:
        """The first one, the best there is, also serves."""
        config = graph_config(self._device, self._dtype, chosen)
        # Loaded when it is first asked for, inside a part, so that a failure is noted there.
        model = cache(lambda: build_model(checkpoint, config))
        seconds, calls = (1.0, 2) if self._quick else (30.0, 30)
        for streams in self._sizes(name):
            steps = partial(speed.step_times, config=config, streams=streams, seconds=seconds, calls=calls)
            self._part(f"{name}.{streams}", 12, partial(_of_loaded, model, steps))
            self._release()
        if is_first:
            self._serving(model, config, f"{name}.{self._sizes(name)[-1]}")
        model.cache_clear()
        self._release()

    def _sizes(self, name: str) -> Sequence[int]:
        most = SATURATED[self._shape]
        if self._quick:
            return (2,)
        return (1, 8, most) if name in ("best", "int8 kv") else (1, most // 4)

    def _serving(self, model: Callable[[], LoadedModel], config: EngineConfig, saturated: str) -> None:
        quick, shape = self._quick, self._shape
        self._part("first_audio", 5, lambda: speed.first_audio(model(), config, 1 if quick else 9))
        count, seconds, limit_s = (2, 0.5, 60.0) if quick else (LISTENERS[shape], 12.0, 25.0)
        self._part("listeners", 5, lambda: speed.listeners(model(), config, count, seconds, limit_s))
        step = self._run.result.get(f"{shape}.{saturated}", {})
        self._part("shares", 5, lambda: speed.shares(model(), config.device, step["streams"], step["ms_per_step"]))

    def _peers(self, weights: Weights) -> None:
        """transformers' `generate`, at ever larger batches until they gain nothing."""
        weights.theirs.to(self._dtype)
        steps, best = (4 if self._quick else 100), 0.0
        for batch in (1,) if self._quick else (1, 8, 32, 64, 128):
            name = f"transformers.{batch}"
            self._part(name, 20, partial(peers.transformers_steps, weights, self._device, batch, steps))
            rate = self._run.result.get(f"{self._shape}.{name}", {}).get("audio_s_per_s", 0.0)
            if rate < 1.05 * best:
                break
            best = rate
            self._release()

    def _part(self, name: str, needs_s: float, make: Callable[[], Any]) -> None:
        self._run.part(f"{self._shape}.{name}", 0 if self._quick else needs_s, make)

    def _release(self) -> None:
        if self._device != "cpu":
            torch.cuda.empty_cache()


def _of_loaded(model: Callable[[], LoadedModel], measure: Callable[[LoadedModel], Any]) -> Any:
    return measure(model())
