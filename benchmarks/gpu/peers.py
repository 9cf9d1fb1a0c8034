"""transformers' ``generate`` with its defaults, on the same weights."""

from __future__ import annotations

import time

import torch

from benchmarks.gpu.speed import synchronize
from benchmarks.weights import Weights


@torch.inference_mode()
def transformers_steps(weights: Weights, device: str, batch: int, steps: int) -> dict[str, float]:
    """Sampled and guided, so many prompts at once; one short run warms it up."""
    prompts = [f"warm bass, soft drums and a slow melody, take {index:03d}" for index in range(batch)]
    inputs = {name: tensor.to(device) for name, tensor in weights.tokenizer(prompts, return_tensors="pt").items()}
    inputs.pop("token_type_ids", None)
    run = {"do_sample": True, "top_k": 250, "guidance_scale": 3.0}
    weights.theirs.generate(**inputs, **run, max_new_tokens=6)
    synchronize(device)
    begin = time.perf_counter()
    weights.theirs.generate(**inputs, **run, max_new_tokens=steps + 3)
    synchronize(device)
    wall_s = time.perf_counter() - begin
    rate = weights.config.frame_rate
    return {"streams": batch, "ms_per_step": 1e3 * wall_s / steps, "audio_s_per_s": batch * steps / rate / wall_s}
