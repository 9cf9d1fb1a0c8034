"""Greedy tokens and sound equal transformers' own ``generate``, through the whole engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from models.config import EngineConfig
from models.engine.engine import Engine
from models.engine.loader import load_model
from models.types import GenerationRequest, SamplingParams
from tests.factories import make_checkpoint
from tests.models.engine_support import drive

SHAPES: dict[str, dict[str, Any]] = {
    "mono": {"hidden": 64, "layers": 2, "heads": 4, "ffn": 128},
    "deep": {"hidden": 32, "layers": 5, "heads": 2, "ffn": 96, "seed": 3},
    "stereo": {"hidden": 48, "layers": 2, "heads": 3, "ffn": 64, "stereo": True, "seed": 1},
    "real vocabulary": {"hidden": 64, "layers": 1, "heads": 1, "vocab": 2048, "seed": 2},
    "no projection": {"hidden": 32, "text_hidden": 32, "ffn": 64, "seed": 4},
}
PROMPTS = ["lo-fi hip hop with a warm bass", "", "x"]


@pytest.fixture(scope="module", params=SHAPES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return make_checkpoint(folder, **SHAPES[request.param])


@torch.inference_mode()
def their_track(path: Path, prompt: str, frames: int, guidance: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Codes ``[K, frames]`` and samples ``[samples, channels]`` as transformers makes them, greedily."""
    model = MusicgenForConditionalGeneration.from_pretrained(path).eval()
    stereo = model.config.decoder.audio_channels == 2
    seen: list[Tensor] = []
    decode = model.audio_encoder.decode

    def watched(audio_codes: Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(audio_codes[0, 0])
        return decode(audio_codes, *args, **kwargs)

    model.audio_encoder.decode = watched
    inputs = (
        dict(AutoTokenizer.from_pretrained(path)(prompt, return_tensors="pt"))
        if prompt
        else dict(model.get_unconditional_inputs(1))
    )
    inputs.pop("guidance_scale", None)
    audio = model.generate(**inputs, do_sample=False, guidance_scale=guidance, max_new_tokens=frames + 3)
    codes = torch.stack(seen, dim=1).flatten(0, 1) if stereo else seen[0]
    return codes.numpy(), audio[0].T.numpy()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_tracks_equal_transformers(checkpoint: Path, guidance: float) -> None:
    """Three prompts in one batch; transformers makes them one at a time."""
    config = EngineConfig(return_codes=True, num_threads=1)
    sampling = SamplingParams(guidance=guidance, greedy=True)
    frames = [60, 45, 70]
    engine = Engine(load_model(checkpoint, config), config)
    requests = [
        GenerationRequest(str(index), prompt, (count + 0.01) / 50, sampling=sampling)
        for index, (prompt, count) in enumerate(zip(PROMPTS, frames, strict=True))
    ]
    tracks = drive(engine, {0: requests})
    for index, (prompt, count) in enumerate(zip(PROMPTS, frames, strict=True)):
        codes, audio = their_track(checkpoint, prompt, count, guidance)
        track = tracks[str(index)]
        np.testing.assert_array_equal(track.codes(engine.model.decoder.num_codebooks), codes)
        np.testing.assert_allclose(track.pcm, np.clip(audio, -1, 1), atol=2e-5, rtol=0)


def test_ten_seconds_stay_equal(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, hidden=64, layers=2, heads=2, vocab=512, ratios=(4, 2), seed=9)
    config = EngineConfig(return_codes=True, num_threads=1)
    engine = Engine(load_model(path, config), config)
    sampling = SamplingParams(greedy=True)
    track = drive(engine, {0: [GenerationRequest("r", PROMPTS[0], 10.0, sampling=sampling)]})["r"]
    codes, _ = their_track(path, PROMPTS[0], 500, 3.0)
    np.testing.assert_array_equal(track.codes(), codes)
