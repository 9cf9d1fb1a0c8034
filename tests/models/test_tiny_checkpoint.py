"""The embedded model: transformers loads the same folder and makes the same tokens; it plays for 30 s and listens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from models.catalog import TINY_PATH, describe
from models.engine.engine import Engine
from models.engine.loader import load_model
from models.engine_config import EngineConfig
from models.tiny.training import analysis
from models.tiny.training.analysis import Array
from models.types import GenerationRequest, SamplingParams

GREEDY = SamplingParams(greedy=True)


@pytest.fixture(scope="module")
def engine() -> Engine:
    config = EngineConfig(max_rows=16, return_codes=True, num_threads=1)
    return Engine(load_model(TINY_PATH, config), config)


def tracks(engine: Engine, *requests: GenerationRequest) -> dict[str, tuple[Array, Array]]:
    """Samples and codes [4, frames] of each request, all made together."""
    pcm: dict[str, list[bytes]] = {request.request_id: [] for request in requests}
    codes: dict[str, Array] = {}
    for request in requests:
        engine.add(request)
    while engine.has_work:
        for output in engine.step():
            chunk = output.news
            assert not isinstance(chunk, Exception), chunk
            pcm[output.request_id].append(chunk.pcm)
            if chunk.codes is not None:
                codes[output.request_id] = np.frombuffer(chunk.codes, "<i8").reshape(4, -1)
    return {name: (np.frombuffer(b"".join(parts), "<f4").astype(float), codes[name]) for name, parts in pcm.items()}


@pytest.mark.parametrize("prompt", ["energetic synthwave in A minor with techno drums, 150 bpm", ""])
@torch.inference_mode()
def test_greedy_tokens_equal_transformers_for_ten_seconds(engine: Engine, prompt: str) -> None:
    frames = 500
    model = MusicgenForConditionalGeneration.from_pretrained(TINY_PATH, dtype=torch.float32).eval()
    seen: list[torch.Tensor] = []
    decode = model.audio_encoder.decode

    def spy(codes: torch.Tensor, *args: object, **kwargs: object) -> object:
        seen.append(codes)
        return decode(codes, *args, **kwargs)

    model.audio_encoder.decode = spy
    options = {"do_sample": False, "max_new_tokens": frames + 3}
    if prompt:
        text = AutoTokenizer.from_pretrained(TINY_PATH)(prompt, return_tensors="pt")
        audio = model.generate(**text, guidance_scale=3.0, **options)
    else:
        null = model.get_unconditional_inputs(num_samples=1)
        inputs = {"encoder_outputs": null.encoder_outputs, "attention_mask": null.attention_mask}
        audio = model.generate(**inputs, guidance_scale=1.0, **options)
    samples, codes = tracks(engine, GenerationRequest("a", prompt, frames / 50, 0, GREEDY))["a"]
    np.testing.assert_array_equal(codes, seen[0][0, 0].numpy())
    np.testing.assert_allclose(samples, audio[0, 0].numpy(), atol=1e-4)


def test_thirty_seconds_are_sound_from_end_to_end(engine: Engine) -> None:
    prompt = "happy folk guitar in G major, 107 bpm, rock drums, bass line"
    samples, codes = tracks(engine, GenerationRequest("long", prompt, 30.0, 3))["long"]
    assert codes.shape == (4, 1500)
    assert samples.size == 30 * 32_000
    heard = analysis.validity(samples)
    assert heard.ok, heard
    last = analysis.rms_db(samples[-5 * 32_000 :])
    assert last > -45


def test_it_follows_drums_and_dynamics(engine: Engine) -> None:
    """A guard against shipping a deaf checkpoint; the whole table is in the model card."""
    families = ("piano", "strings", "synthwave", "acoustic guitar")
    requests = [
        GenerationRequest(f"{drums} {family}", f"{family} in C major, 125 bpm, {drums}, {level}", 6.0, 5)
        for family in families
        for drums, level in (("rock drums", "loud"), ("no drums", "quiet"))
    ]
    made = tracks(engine, *requests)
    drums = [analysis.has_drums(made[f"rock drums {family}"][0]) for family in families]
    none = [not analysis.has_drums(made[f"no drums {family}"][0]) for family in families]
    louder = [
        analysis.rms_db(made[f"rock drums {family}"][0]) > analysis.rms_db(made[f"no drums {family}"][0])
        for family in families
    ]
    assert sum(drums) + sum(none) >= 7
    assert sum(louder) >= 3


def test_the_catalog_knows_its_licence_and_limits() -> None:
    spec = describe(TINY_PATH, "tiny")
    assert (spec.sample_rate, spec.frame_rate, spec.num_codebooks, spec.max_duration_s) == (32_000, 50, 4, 600.0)
    assert spec.licence
    assert sum(file.stat().st_size for file in TINY_PATH.iterdir()) <= 25e6
