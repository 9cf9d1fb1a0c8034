"""What `prefill_rows` buys and costs: how soon a track with a melody samples, how long others' steps take.

The tiny model on one thread; seconds are processor time, so what else the machine does matters little. Positions that
are filled cost the same whatever they hold, so the newcomer goes on from as many frames as a melody and a text have
positions. The listeners are in the middle of their tracks when it comes.

    python -m benchmarks.prefill
"""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

import numpy as np

from models.catalog import TINY_PATH
from models.engine.engine import Engine
from models.engine.loader import LoadedModel, load_model
from models.engine_config import EngineConfig
from models.types import CodePrompt, GenerationRequest

POSITIONS = 235 + 20
"""Of a melody and a text of some words."""
LISTENERS = (0, 4, 12)
ROWS = (16, 32, 64, 128)
REPEATS = 5
WARM_STEPS = 60


def main() -> None:
    config = EngineConfig(weights="int8", num_threads=1, max_rows=32)
    model = load_model(TINY_PATH, config)
    print("listeners  prefill_rows  until it samples  steps  longest step  step without it")
    for listeners in LISTENERS:
        for rows in ROWS:
            runs = [
                _run(model, replace(config, prefill_rows=rows, pause_rows=False), listeners) for _ in range(REPEATS)
            ]
            until_s, steps, longest_s, before_s = (median(column) for column in zip(*runs, strict=True))
            figures = f"{1e3 * until_s:13.0f} ms  {steps:5.0f}  {1e3 * longest_s:9.1f} ms  {1e3 * before_s:12.1f} ms"
            print(f"{listeners:9}  {rows:12}  {figures}", flush=True)


def _run(model: LoadedModel, config: EngineConfig, listeners: int) -> tuple[float, float, float, float]:
    """Seconds until it samples, steps until then, the longest of them, and the median one before; seconds."""
    engine = Engine(model, config)
    for index in range(listeners):
        engine.add(GenerationRequest(f"listener {index}", f"calm piano {index}", 20.0, index))
    before = [_step_s(engine) for _ in range(WARM_STEPS)]
    codes = np.random.default_rng(0).integers(0, model.config.decoder.vocab_size, (4, POSITIONS))
    prompt = CodePrompt(codes.astype("<i8").tobytes(), 4)
    engine.add(GenerationRequest("newcomer", "fast techno", 20.0, continues=prompt))
    filled, taken = 2 * POSITIONS, list[float]()
    while filled > 0:
        rows = engine.stats().row_steps
        taken.append(_step_s(engine))
        filled -= engine.stats().row_steps - rows - 2 * listeners
    return sum(taken), len(taken), max(taken[1:]), median(before[1:]) if listeners else 0.0


def _step_s(engine: Engine) -> float:
    began = time.process_time()
    engine.step()
    return time.process_time() - began


if __name__ == "__main__":
    main()
