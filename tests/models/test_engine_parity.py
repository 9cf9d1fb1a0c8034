"""Greedy tokens and sound equal transformers' own ``generate``, and sampled ones follow the same distribution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from models.engine.engine import Engine
from models.engine.loader import load_model
from models.engine_config import EngineConfig
from models.types import GenerationRequest, SamplingParams
from tests.factories import make_checkpoint
from tests.models.engine_support import Tracks, drive

PROMPT = "lo-fi hip hop with a warm bass"
SHAPES: dict[str, dict[str, Any]] = {
    "mono": {"hidden": 64, "layers": 2, "heads": 4, "ffn": 128},
    "deep": {"hidden": 32, "layers": 4, "heads": 2, "ffn": 96, "seed": 3, "ratios": (4, 2)},
    "stereo": {"hidden": 48, "layers": 2, "heads": 3, "ffn": 64, "stereo": True, "seed": 1, "ratios": (4, 2)},
    "real vocabulary": {"hidden": 64, "layers": 1, "heads": 1, "vocab": 2048, "seed": 2, "ratios": (4, 2)},
    "no projection": {"hidden": 32, "text_hidden": 32, "ffn": 64, "seed": 4, "ratios": (4, 2)},
}


@dataclass(frozen=True)
class Pair:
    """One checkpoint, loaded by transformers and by us."""

    path: Path
    theirs: Any
    ours: Engine

    @classmethod
    def of(cls, folder: Path, **shape: Any) -> Pair:
        path = make_checkpoint(folder, **shape)
        config = EngineConfig(return_codes=True, num_threads=1)
        return cls(
            path,
            MusicgenForConditionalGeneration.from_pretrained(path).eval(),
            Engine(load_model(path, config), config),
        )

    def our_tracks(self, *requests: GenerationRequest) -> Tracks:
        return drive(self.ours, {0: requests})

    @torch.inference_mode()
    def their_tracks(self, prompts: list[str], frames: int, **settings: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Codes ``[B, K, frames]`` and samples ``[B, channels, samples]``; the prompts are all "" or equally long."""
        seen: list[Tensor] = []
        decode = self.theirs.audio_encoder.decode

        def watched(audio_codes: Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append(audio_codes[0])
            return decode(audio_codes, *args, **kwargs)

        if prompts[0]:
            inputs = dict(AutoTokenizer.from_pretrained(self.path)(prompts, return_tensors="pt"))
        else:
            inputs = dict(self.theirs.get_unconditional_inputs(len(prompts)))
            inputs.pop("guidance_scale")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.theirs.audio_encoder, "decode", watched)
            audio = self.theirs.generate(**inputs, max_new_tokens=frames + 3, **settings)
        codes = torch.stack(seen, dim=2).flatten(1, 2) if len(seen) == 2 else seen[0]  # stereo: left and right in turn
        return codes.numpy(), audio.numpy()


def greedy(name: str, prompt: str, frames: int, guidance: float = 3.0) -> GenerationRequest:
    sampling = SamplingParams(guidance=guidance, greedy=True)
    return GenerationRequest(name, prompt, (frames + 0.01) / 50, sampling=sampling)


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_tracks_equal_transformers(shape: str, tmp_path: Path) -> None:
    """Guided, unguided and without a prompt in one batch; transformers makes them one at a time."""
    pair = Pair.of(tmp_path, **SHAPES[shape])
    requests = [greedy("a", PROMPT, 50), greedy("b", PROMPT, 33, guidance=1.0), greedy("c", "", 41)]
    requests.append(greedy("d", "x", 20))
    tracks = pair.our_tracks(*requests)
    for item in requests:
        frames = int(item.duration_s * 50)
        codes, audio = pair.their_tracks(
            [item.prompt], frames, do_sample=False, guidance_scale=item.sampling.guidance if item.prompt else 1.0
        )
        track = tracks[item.request_id]
        np.testing.assert_array_equal(track.codes(codes.shape[1]), codes[0])
        np.testing.assert_allclose(track.pcm.T, np.clip(audio[0], -1, 1), atol=2e-5, rtol=0)


def test_ten_seconds_stay_equal(tmp_path: Path) -> None:
    pair = Pair.of(tmp_path, hidden=64, layers=2, heads=2, vocab=512, ratios=(4, 2), seed=9)
    track = pair.our_tracks(greedy("r", PROMPT, 500))["r"]
    codes, _ = pair.their_tracks([PROMPT], 500, do_sample=False, guidance_scale=3.0)
    np.testing.assert_array_equal(track.codes(), codes[0])


def test_sampled_tokens_follow_the_distribution_of_transformers(tmp_path: Path) -> None:
    """Many short tracks from both; every codebook at every frame as a two-row contingency table."""
    pair = Pair.of(tmp_path, hidden=32, layers=2, heads=4, vocab=32, ratios=(4, 2), seed=5)
    draws, frames = 600, 3
    torch.manual_seed(0)
    settings = {"do_sample": True, "guidance_scale": 3.0, "temperature": 1.3, "top_k": 10}
    theirs, _ = pair.their_tracks([PROMPT] * draws, frames, **settings)
    sampling = SamplingParams(guidance=3.0, temperature=1.3, top_k=10)
    requests = [GenerationRequest(str(seed), PROMPT, 0.0601, seed, sampling) for seed in range(draws)]
    tracks: Tracks = {}
    for start in range(0, draws, 50):
        tracks |= pair.our_tracks(*requests[start : start + 50])
    ours = np.stack([tracks[str(seed)].codes() for seed in range(draws)])  # [draws, K, frames]
    for codebook in range(4):
        for frame in range(frames):
            counts = [np.bincount(codes[:, codebook, frame], minlength=32) for codes in (ours, theirs)]
            table = np.stack(counts)
            table = table[:, table.sum(0) >= 10]
            assert table.shape[1] > 1, "the model must leave something to chance"
            assert stats.chi2_contingency(table).pvalue > 1e-4
