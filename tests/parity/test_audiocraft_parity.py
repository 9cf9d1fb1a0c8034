"""We make what audiocraft 1.3.0 itself makes: its own loaders, models and loops, run in a process of their own.

The same random weights for both, in audiocraft's own format. Its answers are made once, while ours are being made.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import T5Tokenizer

from benchmarks.peers import audiocraft_import
from models.checkpoint import load_checkpoint
from models.checkpoint_files import LANGUAGE_MODEL, Format
from models.conditioning.chroma import FRAMES, tune
from models.conditioning.separation import Separator
from models.conditioning.text import TextConditioner
from models.config import ModelConfig
from models.engine.engine import Engine
from models.engine.loader import load_model
from models.engine.sampler import SamplingBatch, guide, truncated_probabilities
from models.engine_config import EngineConfig
from models.errors import CheckpointError
from models.musicgen.decoder import MusicGenDecoder
from models.style_prompt import StylePrompt
from models.types import AudioPrompt, CodePrompt, GenerationRequest, SamplingParams
from models.variants import VARIANTS, Variant
from tests import separation
from tests.audiocraft_files import CODEC, TEXT_ENCODER, export, save
from tests.factories import make_checkpoint
from tests.models.engine_support import Tracks, drive
from tests.models.test_variants import write
from tests.parity import cases
from tests.parity.cases import Track
from tests.style_files import make_style

torch.set_num_threads(1)
ROOT = Path(__file__).parents[2]
EVERY_TRACK = [(name, track) for name in cases.SHAPES for track in cases.tracks_of(name)]
EVERY_MODEL = pytest.mark.parametrize("model", cases.SHAPES)
PUBLISHED = [variant for variant in VARIANTS if "style" not in variant.conditioners]  # which audiocraft 1.3.0 lacks too

pytestmark = [
    pytest.mark.skipif(
        not (audiocraft_import.FOLDER / ".installed").is_file(),
        reason="audiocraft is not installed: `make bench-peers-install` fetches it from a package index",
    ),
]

Answers = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints, each in a folder of its name."""
    root = tmp_path_factory.mktemp("parity")
    for name, shape in cases.SHAPES.items():
        if name == "style":
            make_style(root / name, **shape)
        else:
            export(make_checkpoint(root / f"{name} of transformers", **shape), root / name, codec_inside=True)
        write_tokenizer(root / name / TEXT_ENCODER)
    if separation.is_installed():
        with separation.importable():
            separation.write_weights(root / cases.SEPARATOR)
    for variant in PUBLISHED:
        (root / cases.PUBLISHED / variant.name).mkdir(parents=True)
        write(root / cases.PUBLISHED / variant.name, variant, Format.AUDIOCRAFT)
    return root


def write_tokenizer(folder: Path) -> None:
    """A T5 tokenizer, as audiocraft takes no other: a token per letter."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(start + letter, -3.0) for start in ("", "▁") for letter in letters]
    T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(folder)


@pytest.fixture(scope="module")
def their_process(folder: Path) -> Iterator[Callable[[], Answers]]:
    """Started; to be called for the answers when they are needed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.parity.theirs", str(folder)]
    with subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True) as process:

        def answers() -> Answers:
            _, said = process.communicate()
            assert process.returncode == 0, said
            made: Answers = torch.load(folder / cases.ANSWERS, weights_only=True)
            return made

        yield answers
        process.kill()


@pytest.fixture(scope="module")
def ours(folder: Path, their_process: Callable[[], Answers]) -> dict[str, Tracks]:
    """Of each model, all tracks in one batch."""
    return {name: our_tracks(folder / name) for name in cases.SHAPES}


@pytest.fixture(scope="module")
def theirs(their_process: Callable[[], Answers], ours: dict[str, Tracks]) -> Answers:
    return their_process()


def our_tracks(folder: Path) -> Tracks:
    settings = EngineConfig(return_codes=True, num_threads=1)
    model = load_model(folder, settings)
    model = replace(model, config=replace(model.config, max_duration_s=cases.WINDOW_S))
    engine = Engine(model, settings)
    requests = [engine.encoded(request(each, model.config)) for each in cases.tracks_of(folder.name)]
    return drive(engine, {0: requests[0::2], 9: requests[1::2]})


def request(track: Track, model: ModelConfig) -> GenerationRequest:
    channels = model.channels
    continues: CodePrompt | AudioPrompt | None = None
    if track.known:
        codes = cases.known_codes(track, 4 * channels)
        continues = CodePrompt(codes.astype("<i8").tobytes(), len(codes))
    elif track.heard:
        samples = np.ascontiguousarray(cases.heard_sound(track, channels).T)
        continues = AudioPrompt(samples.astype("<f4").tobytes(), channels, model.sample_rate)
    melody = AudioPrompt(cases.sound(track.melody).astype("<f4").tobytes(), 1, cases.RATE) if track.melody else None
    style = None
    if track.style:
        style = StylePrompt(AudioPrompt(cases.sound(track.style).astype("<f4").tobytes(), 1, cases.RATE))
    return GenerationRequest(
        track.name,
        track.prompt or "",
        track.duration_s,
        sampling=SamplingParams(guidance=track.guidance, greedy=True, guidance_beta=track.beta if style else None),
        continues=continues,
        extend_stride_s=cases.STRIDE_S,
        melody=melody,
        style=style,
    )


@pytest.mark.parametrize(("model", "track"), EVERY_TRACK, ids=[f"{name}: {track.name}" for name, track in EVERY_TRACK])
def test_greedy_tokens_and_sound_are_audiocrafts(
    model: str, track: Track, ours: dict[str, Tracks], theirs: Answers
) -> None:
    """Ours in one batch that all of them came to at two times, audiocraft's one after the other."""
    wanted, made = theirs["tracks"][model][track.name], ours[model][track.name]
    assert made.error is None
    codes = made.codes(len(wanted["codes"]))
    assert codes.shape == (8 if "stereo" in model else 4, track.frames)
    np.testing.assert_array_equal(codes, wanted["codes"].numpy())
    np.testing.assert_allclose(made.pcm.T, wanted["audio"].clamp(-1, 1).numpy(), atol=5e-5, rtol=0)


@EVERY_MODEL
def test_tracks_say_something(model: str, theirs: Answers) -> None:
    """Else they would prove nothing: many codes, no two beginnings alike, no choice so close that rounding makes it."""
    tracks = theirs["tracks"][model].values()
    made = [each["codes"].numpy() for each in tracks]
    assert len(np.unique(np.concatenate(made, axis=1))) > 40
    assert len({codes[:, :12].tobytes() for codes in made}) == len(made)
    assert min(float(each["margin"]) for each in tracks) > 5e-4


@EVERY_MODEL
@torch.inference_mode()
def test_texts_are_encoded_as_audiocraft_does(model: str, folder: Path, theirs: Answers) -> None:
    checkpoint = load_checkpoint(folder / model)
    text, decoder = TextConditioner.from_checkpoint(checkpoint), MusicGenDecoder.from_checkpoint(checkpoint)
    for prompt in cases.PROMPTS:
        states = decoder.project_text(text.encode(prompt))
        np.testing.assert_allclose(states.numpy(), theirs["texts"][model][prompt].numpy(), atol=1e-5, rtol=1e-4)
    # No text is no text: zeros after the projection, whose bias does not leak. We compute nothing of it.
    assert not theirs["texts"][model][""].any()


@pytest.mark.parametrize("index", range(len(cases.SAMPLING)))
def test_a_step_is_drawn_from_audiocrafts_distribution(index: int, theirs: Answers) -> None:
    settings, logits = cases.SAMPLING[index], torch.from_numpy(cases.step_logits())
    params = SamplingParams(
        guidance=cases.STEP_GUIDANCE,
        temperature=settings["temp"],
        top_k=int(settings["top_k"]),
        top_p=settings["top_p"],
    )
    batch = SamplingBatch.build([params], [0], [1], num_codebooks=4, vocab_size=cases.STEP_CODES)
    probabilities: Tensor = truncated_probabilities(guide(logits, batch), batch)[0]
    wanted: Tensor = theirs["probabilities"][index]
    torch.testing.assert_close(probabilities / probabilities.sum(-1, keepdim=True), wanted, atol=1e-6, rtol=1e-4)
    assert torch.equal(probabilities > 0, wanted > 0), "the same codes can be drawn"


@pytest.mark.parametrize("name", cases.SOUNDS)
def test_the_tune_that_is_heard_is_audiocrafts(name: str, theirs: Answers) -> None:
    """Without Demucs before either: see `models.conditioning.chroma`."""
    wanted: NDArray[np.int64] = theirs["chroma"][name].argmax(-1).numpy()
    heard = tune(torch.from_numpy(cases.sound(name)), cases.RATE).numpy()
    np.testing.assert_array_equal(heard, np.resize(wanted, FRAMES))
    assert name == "short" or len(np.unique(wanted)) > 2


@separation.installed
@pytest.mark.parametrize("name", cases.SEPARATED)
def test_what_is_left_without_drums_and_bass_is_audiocrafts(name: str, folder: Path, theirs: Answers) -> None:
    """By the same network: the rates it works at, what of it is kept, how segments are joined, and the tune of that."""
    wanted = theirs["separated"][name]
    with separation.importable():
        separator = Separator.load(folder / cases.SEPARATOR)
        left = separator.melody_of(torch.from_numpy(cases.sound(name)), cases.RATE, lambda: False)
    assert float(wanted["left"].abs().max()) > 1e-3
    torch.testing.assert_close(left, wanted["left"], atol=1e-6, rtol=1e-4)
    classes = wanted["chroma"].argmax(-1).numpy()
    np.testing.assert_array_equal(tune(left, cases.RATE).numpy(), np.resize(classes, FRAMES))


@pytest.mark.parametrize("variant", PUBLISHED, ids=lambda variant: variant.name)
def test_every_tensor_of_a_published_model_has_its_place(variant: Variant, folder: Path, theirs: Answers) -> None:
    """As audiocraft builds it, nothing is missing, left over or misshapen: it is the next file that is missing."""
    place = folder / cases.PUBLISHED / variant.name
    package = torch.load(place / LANGUAGE_MODEL, weights_only=True)
    state = {name: torch.zeros(()).expand(shape) for name, shape in theirs["shapes"][variant.name].items()}
    assert len(state) > 200
    save({**package, "best_state": state}, place / LANGUAGE_MODEL)
    with pytest.raises(CheckpointError, match=f"{CODEC}/model.safetensors is missing"):
        load_checkpoint(place)


def test_what_the_benchmark_asks_for_is_what_is_locked() -> None:
    locked = (ROOT / "requirements-audiocraft.lock").read_text().split()
    assert set(audiocraft_import.REQUIREMENTS) <= set(locked)
