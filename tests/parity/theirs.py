"""audiocraft's own answers, by audiocraft's own code: run as a program, for what it imports must not reach other tests.

Only what it imports and never calls here is stood in for; Demucs, which it calls, hands back the mix it is given, but
where it is asked what Demucs leaves.

    python -m tests.parity.theirs FOLDER        reads the checkpoints below it, writes FOLDER/answers.pt
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import audiocraft_import
from tests import separation
from tests.parity import cases, style
from tests.parity.cases import Track

NEVER_CALLED = ("av", "flashy", "num2words", "spacy")


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """audiocraft can be imported and called."""
    importlib.import_module("transformers")  # before it could take what stands in for torchaudio for the real one
    folder = audiocraft_import.FOLDER
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, audiocraft_import.StandIns(NEVER_CALLED))
    for name in ("torchaudio", *audiocraft_import.BARE_PACKAGES):
        audiocraft_import.bare_package(name, folder)
    # Wants CUDA, and none of what it is for is called.
    _module("torchaudio._extension", _IS_TORCHAUDIO_EXT_AVAILABLE=False, fail_if_no_align=_undecorated)
    _module("demucs", pretrained=types.SimpleNamespace(get_model=lambda _: Mix()))
    _module("demucs.apply", apply_model=Mix.separated)
    _module("demucs.audio", convert_audio=Mix.converted)
    _module("numba", **dict.fromkeys(("jit", "vectorize", "guvectorize", "stencil"), _undecorated))
    importlib.import_module("torchaudio.transforms")
    with audiocraft_import.xformers():
        # Its sign for "causal", whichever backend computes the attention; a prompt of several steps wants one.
        vars(sys.modules["xformers.ops"]).update(LowerTriangularMask=type("LowerTriangularMask", (), {}))
        yield


class Mix:
    """In the place of Demucs: one of its four sources is the whole sound, so nothing is taken out of it."""

    sources = ("drums", "bass", "other", "vocals")
    samplerate, audio_channels = cases.RATE, 1

    def to(self, _device: object) -> Mix:
        return self

    def separated(self, sound: Tensor, device: object) -> Tensor:
        """[B, 4, 1, samples] of [B, 1, samples]"""
        sources = sound.new_zeros(len(sound), 4, *sound.shape[1:])
        sources[:, 2] = sound
        return sources

    @staticmethod
    def converted(sound: Tensor, rate: int, wanted_rate: int, channels: int) -> Tensor:
        assert (rate, sound.shape[1]) == (wanted_rate, channels)
        return sound


def _module(name: str, **contents: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module


def _undecorated(*arguments: Any, **settings: Any) -> Any:
    """A compiler's decorator that leaves functions to Python."""
    return arguments[0] if len(arguments) == 1 and not settings and callable(arguments[0]) else _undecorated


# ----------------------------------------------------------------------------------------------------------- the models


def load(folder: Path) -> Any:
    """``MusicGen`` of an exported folder, by audiocraft's loaders."""
    os.chdir(folder)  # where transformers finds t5-base
    width = json.loads(Path("t5-base/config.json").read_text())["d_model"]
    _of("modules.conditioners").T5Conditioner.MODELS_DIMS["t5-base"] = width
    builders = _of("models.builders")
    build = builders.get_conditioner_provider
    if folder.name == "style":

        def build(output_dim: int, _: object) -> Any:
            return style.provider(folder, output_dim, cases.RATE)

    with _replaced(builders, "get_conditioner_provider", build):
        model = _of("models.musicgen").MusicGen.get_pretrained(str(folder), device="cpu")
    if folder.name == "style":
        model.lm.condition_provider.conditioners["self_wav"]._use_masking = True  # what is none, is zeros
    model.max_duration = cases.WINDOW_S
    return model


def _of(name: str) -> Any:
    return importlib.import_module(f"audiocraft.{name}")


def track(model: Any, wanted: Track) -> dict[str, Tensor]:
    """``codes``, int64 [K, frames]; ``audio``, float32 [channels, samples]; ``margin``, by which the logit of the code
    that was chosen is above the next, where the choice was closest.
    """
    margins: list[Tensor] = []
    chosen = torch.argmax

    def choose(logits: Tensor, **how: Any) -> Tensor:
        first, second = logits.topk(2, dim=-1).values.unbind(-1)
        margins.append((first - second).min())
        return chosen(logits, **how)

    with _replaced(torch, "argmax", choose):
        audio, codes = _generated(model, wanted)
    return {"codes": codes[0], "audio": audio[0], "margin": torch.stack(margins).min()}


def _generated(model: Any, wanted: Track) -> tuple[Tensor, Tensor]:
    model.set_generation_params(
        use_sampling=False, duration=wanted.duration_s, cfg_coef=wanted.guidance, extend_stride=cases.STRIDE_S
    )
    if wanted.heard:
        sound = torch.from_numpy(cases.heard_sound(wanted, model.audio_channels))
        return _both(model.generate_continuation(sound, model.sample_rate, [wanted.prompt], return_tokens=True))
    heard = wanted.melody or wanted.style
    melodies = [torch.from_numpy(cases.sound(heard))[None]] if heard else None
    if wanted.melody and not wanted.known:
        return _both(model.generate_with_chroma([wanted.prompt], melodies, cases.RATE, return_tokens=True))
    attributes, _ = model._prepare_tokens_and_attributes([wanted.prompt], None, melodies)
    known = torch.from_numpy(cases.known_codes(wanted, model.lm.num_codebooks))[None] if wanted.known else None
    with style.doubly_guided(model, wanted.beta):
        codes = model._generate_tokens(attributes, known)
    return model.generate_audio(codes), codes


def _both(made: Any) -> tuple[Tensor, Tensor]:
    audio, codes = made
    return audio, codes


def texts(model: Any) -> dict[str, Tensor]:
    """What the text conditioner makes of each prompt, float32 [T, D], and of none."""
    conditioner = model.lm.condition_provider.conditioners["description"]
    made = {prompt: conditioner(conditioner.tokenize([prompt or None]))[0][0] for prompt in (*cases.PROMPTS, "")}
    return {prompt: states.detach() for prompt, states in made.items()}


# --------------------------------------------------------------------------------------------------------- its sampling


def probabilities(model: Any) -> list[Tensor]:
    """Of one step's codes, float32 [K, V], as they stand before ``multinomial``."""
    return [_of_a_step(model, settings) for settings in cases.SAMPLING]


def _of_a_step(model: Any, settings: dict[str, Any]) -> Tensor:
    seen: list[Tensor] = []
    sampling, logits = _of("utils.utils"), torch.from_numpy(cases.step_logits())
    drawn, ordered = sampling.multinomial, torch.sort

    def draw(probs: Tensor, num_samples: int) -> Tensor:
        seen.append(probs.clone())
        made: Tensor = drawn(probs, num_samples)
        return made

    def sort(values: Tensor, **how: Any) -> Any:
        found = ordered(values, **how)
        orders.append(found[1])
        return found

    orders: list[Tensor] = []
    codes, coefficient = torch.zeros(1, 4, 1, dtype=torch.int64), cases.STEP_GUIDANCE
    model.lm.__dict__["_fsdp"] = lambda *_, **__: logits[:, :, None]  # what it calls in place of itself
    with _replaced(sampling, "multinomial", draw), _replaced(torch, "sort", sort):
        model.lm._sample_next_token(codes, {"any": None}, {}, use_sampling=True, cfg_coef=coefficient, **settings)
    model.lm.__dict__["_fsdp"] = None
    if orders:  # top-p draws among the sorted
        return torch.zeros_like(seen[0]).scatter_(-1, orders[0], seen[0])[0]
    return seen[0][0]


@contextlib.contextmanager
def _replaced(owner: Any, name: str, other: Callable[..., Any]) -> Iterator[None]:
    own = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, own)


# -------------------------------------------------------------------------------------------------------------- chroma


def chroma() -> dict[str, Tensor]:
    """One-hot float32 [frames, 12] of each sound, as the published melody models take it."""
    extractor = _of("modules.chroma").ChromaExtractor(cases.RATE, n_chroma=12, radix2_exp=14, argmax=True)
    return {name: extractor(torch.from_numpy(cases.sound(name))[None, None])[0] for name in cases.SOUNDS}


def separated(weights: Path) -> dict[str, dict[str, Tensor]]:
    """What its melody conditioner hears: of each sound what is ``left``, float32 [N], and its ``chroma``, [frames, 12].

    By Demucs itself and its own loader. Of the random shifts that it allows, each is the one that shifts by nothing.
    """
    sys.path.append(str(separation.FOLDER))
    for name in ("demucs", "demucs.apply", "demucs.audio"):
        del sys.modules[name]
    _module("lameenc")  # writes MP3s
    network = importlib.import_module("demucs.hf").load_safetensors_model(weights)
    conditioner = _of("modules.conditioners").ChromaStemConditioner
    with _replaced(importlib.import_module("demucs.pretrained"), "get_model", lambda _: network):
        made = conditioner(4, cases.RATE, n_chroma=12, radix2_exp=14, duration=1.0, argmax=True)
    answers = {}
    with _replaced(random, "randint", lambda _, largest: largest):
        for name in cases.SEPARATED:
            left = made._get_stemmed_wav(torch.from_numpy(cases.sound(name))[None, None], cases.RATE)
            answers[name] = {"left": left[0, 0], "chroma": made._extract_chroma(left)[0]}
    return answers


# ------------------------------------------------------------------------------------------------ the published models


def shapes(file: Path) -> dict[str, list[int]]:
    """Of the tensors of the language model that is built from a file's configuration; none of them is filled."""
    builders, config = _of("models.builders"), importlib.import_module("omegaconf").OmegaConf
    _of("modules.conditioners").T5Conditioner.MODELS_DIMS["t5-base"] = 768  # of its projection; the T5 is a small one

    class Unfilled(builders.LMModel):  # type: ignore[name-defined]
        def __init__(self, **settings: Any) -> None:
            with torch.device("meta"):
                super().__init__(**{**settings, "device": "meta"})

        def to(self, _device: object) -> Unfilled:
            return self

    wanted = config.create(torch.load(file, weights_only=True)["xp.cfg"])
    wanted.device, wanted.dtype = "cpu", "float32"
    with _replaced(builders, "LMModel", Unfilled):
        return {name: list(each.shape) for name, each in builders.get_lm_model(wanted).state_dict().items()}


@torch.inference_mode()
def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with importable():
        models = {name: load(folder / name) for name in cases.SHAPES}
        answers = {
            "tracks": {
                name: {each.name: track(model, each) for each in cases.tracks_of(name)}
                for name, model in models.items()
            },
            "texts": {name: texts(model) for name, model in models.items()},
            "probabilities": probabilities(models["mono"]),
            "chroma": chroma(),
            "shapes": {each.name: shapes(each / "state_dict.bin") for each in (folder / cases.PUBLISHED).iterdir()},
        }
        if (folder / cases.SEPARATOR).is_file():  # the last: Demucs stays imported
            answers["separated"] = separated(folder / cases.SEPARATOR)
    torch.save(answers, folder / cases.ANSWERS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
