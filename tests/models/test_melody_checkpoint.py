"""Melody models in both formats: every tensor accounted for, and what a melody must be heard as."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from models.catalog import describe
from models.checkpoint import Checkpoint, load_checkpoint
from models.checkpoint_files import EXTRACTOR
from models.engine.loader import load_model
from models.engine_config import EngineConfig
from models.errors import CheckpointError
from tests.audiocraft_files import export, save
from tests.factories import make_checkpoint

SHAPE: dict[str, Any] = {"hidden": 32, "layers": 1, "heads": 2, "ffn": 64, "text_hidden": 16, "ratios": (4, 2)}


@pytest.fixture(scope="module", params=[False, True], ids=["mono", "stereo"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("melody"), **SHAPE, stereo=request.param, melody=True)


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


def states(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    projections = {"text": checkpoint.enc_to_dec_proj or {}, "melody": checkpoint.audio_enc_to_dec_proj or {}}
    parts = {"decoder": checkpoint.decoder_state, **projections}
    return {f"{part}.{name}": state[name] for part, state in parts.items() for name in state}


def test_both_formats_are_the_same_model(folder: Path, tmp_path: Path) -> None:
    ours, theirs = load_checkpoint(folder), load_checkpoint(export(folder, tmp_path / "audiocraft"))
    assert ours.config == theirs.config
    assert ours.config.conditioners == ("melody", "text")
    first, second = states(ours), states(theirs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    stored = load_file(folder / "model.safetensors")
    elsewhere = ("audio_encoder.", "text_encoder.")
    assert len(first) == sum(not name.startswith(elsewhere) for name in stored), "every tensor is somebody's"


def test_a_melody_model_says_that_it_takes_one(folder: Path) -> None:
    assert describe(folder).takes_melody
    model = load_model(folder, EngineConfig(num_threads=1))
    assert model.melody is not None
    assert EngineConfig().kv_positions_for(model.config) == 16 * (1504 + 235 + 512)


@pytest.mark.parametrize("name", ["audio_enc_to_dec_proj.bias", "enc_to_dec_proj.weight"])
def test_a_missing_projection_is_named(name: str, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    tensors = load_file(folder / "model.safetensors")
    save_file({each: tensor for each, tensor in tensors.items() if each != name}, copy / "model.safetensors")
    assert name in refusal(copy)
    stray = {"decoder.model.decoder.layers.0.encoder_attn.q_proj.weight": torch.zeros(32, 32)}
    save_file({**tensors, **stray}, copy / "model.safetensors")
    assert "encoder_attn.q_proj.weight" in refusal(copy)


def test_transformers_own_account_of_how_it_is_heard_is_read(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    file, heard = copy / EXTRACTOR, {"feature_size": 12, "n_fft": 16_384, "sampling_rate": 400}
    file.write_text(json.dumps({**heard, "stem_indices": [3, 2]}))
    load_checkpoint(copy)
    for setting, value in (("n_fft", 2048), ("hop_length", 512), ("sampling_rate", 32_000)):
        file.write_text(json.dumps({**heard, setting: value}))
        assert f"melody.{setting} = {value} is not supported" in refusal(copy)


@pytest.mark.parametrize(
    ("setting", "value"), [("n_chroma", 24), ("radix2_exp", 12), ("argmax", False), ("sample_rate", 16_000), ("new", 1)]
)
def test_a_melody_that_would_be_heard_otherwise_is_refused(
    setting: str, value: object, folder: Path, tmp_path: Path
) -> None:
    file = export(folder, tmp_path / "audiocraft") / "state_dict.bin"
    package = torch.load(file, weights_only=True)
    settings = yaml.safe_load(package["xp.cfg"])
    settings["conditioners"]["self_wav"]["chroma_stem"][setting] = value
    save({**package, "xp.cfg": yaml.safe_dump(settings)}, file)
    assert setting in refusal(file.parent)
