"""Is it right? Codes against a CPU in float32, a stream against the whole clip, a batch against each alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.variants import Variant, graph_config, name_of
from models.checkpoint import Checkpoint
from models.engine.engine import Engine
from models.engine.loader import LoadedModel, build_model
from models.engine_config import EngineConfig
from models.errors import TuttiError
from models.types import GenerationRequest, SamplingParams

PROMPTS = ("calm piano", "fast techno with a warm bass", "", "soft strings in the evening")
Codes = dict[str, NDArray[np.int64]]
Sounds = dict[str, NDArray[np.float32]]


def requests(count: int, frames: int, rate: int, *, greedy: bool) -> list[GenerationRequest]:
    """Guided, unguided and without a prompt, of different lengths."""
    return [
        GenerationRequest(
            str(index),
            PROMPTS[index % len(PROMPTS)],
            (max(1, frames - 3 * index) + 0.01) / rate,
            index,
            SamplingParams(greedy=greedy, guidance=1.0 if index % 5 == 3 else 3.0),
        )
        for index in range(count)
    ]


def make(engine: Engine, wanted: Sequence[GenerationRequest]) -> tuple[Codes, Sounds]:
    """All of them at once, to the end."""
    for request in wanted:
        engine.add(request)
    codes: Codes = {}
    pieces: dict[str, list[NDArray[np.float32]]] = {}
    while engine.has_work:
        for output in engine.step():
            if isinstance(output.news, TuttiError):
                raise output.news
            pieces.setdefault(output.request_id, []).append(np.frombuffer(output.news.pcm, "<f4"))
            if output.news.codes is not None:
                flat = np.frombuffer(output.news.codes, "<i8")
                codes[output.request_id] = flat.reshape(engine.model.decoder.num_codebooks, -1)
    return codes, {name: np.concatenate(each) for name, each in pieces.items()}


def check(checkpoint: Checkpoint, device: str, variants: Sequence[Variant], frames: int) -> dict[str, Any]:
    """Share of equal codes by variant, and the largest difference between streamed and whole; TF32 is off."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    settings: dict[str, Any] = {"max_rows": 16, "kv_positions": 16 * (frames + 4), "return_codes": True}
    exact = EngineConfig(num_threads=1 if device == "cpu" else None, **settings)
    reference = Engine(build_model(checkpoint, exact), exact)
    rate = checkpoint.config.frame_rate
    greedy = requests(6, frames, rate, greedy=True)
    wanted, _ = make(reference, greedy)
    found: dict[str, Any] = {}
    for variant in variants:
        config = graph_config(device, torch.float32, variant, run_ahead=2, **settings)
        model = build_model(checkpoint, config)
        codes, _ = make(Engine(model, config), greedy)
        found[name_of(variant)] = {
            "equal_codes_to_cpu": _share(codes, wanted),
            "equal_codes_alone": _batched_against_alone(model, config, requests(6, frames, rate, greedy=False)),
            "streamed_minus_whole": _streamed_against_whole(model, config, greedy),
        }
    return found


def _share(left: Codes, right: Codes) -> float:
    return float(np.mean([np.mean(left[name] == right[name]) for name in right]))


def _batched_against_alone(model: LoadedModel, config: EngineConfig, wanted: Sequence[GenerationRequest]) -> float:
    engine = Engine(model, config)
    together, _ = make(engine, wanted)
    alone: Codes = {}
    for request in wanted:
        alone |= make(engine, [request])[0]
    return _share(together, alone)


def _streamed_against_whole(model: LoadedModel, config: EngineConfig, wanted: Sequence[GenerationRequest]) -> float:
    codes, sounds = make(Engine(model, config), wanted)
    worst = 0.0
    for name, each in codes.items():
        channels = model.config.channels
        sides = [torch.from_numpy(each[channel::channels].copy()) for channel in range(channels)]
        whole = torch.stack([model.codec.decode(side[None])[0, 0] for side in sides], -1).clamp(-1, 1)
        worst = max(worst, float(np.abs(whole.flatten().cpu().numpy() - sounds[name]).max()))
    return worst
