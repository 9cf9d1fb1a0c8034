"""Every tensor of a checkpoint is accounted for: what is missing, left over, misshapen or broken is named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import MusicgenForConditionalGeneration

from models.checkpoint import load_checkpoint
from models.checkpoint_files import INDEX, WEIGHTS
from models.conditioning.text import TextConditioner
from models.encodec.decoder import EncodecDecoder
from models.errors import CheckpointError
from models.musicgen.decoder import MusicGenDecoder
from tests.factories import make_checkpoint

# What decoding never reads: the codec's encoder, and the statistics its codebooks were learnt with.
NOT_NEEDED = re.compile(r"audio_encoder\.(encoder\.|.*\.(cluster_size|embed_avg|inited)$)")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), hidden=16, heads=2, ffn=24, layers=2)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture(scope="module")
def tensors(made: Path) -> dict[str, Tensor]:
    return load_file(made / WEIGHTS)


def build_all(folder: Path) -> MusicGenDecoder:
    """What serving does with a checkpoint."""
    checkpoint = load_checkpoint(folder)
    TextConditioner.from_checkpoint(checkpoint)
    EncodecDecoder.from_checkpoint(checkpoint)
    return MusicGenDecoder.from_checkpoint(checkpoint)


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        build_all(folder)
    return str(caught.value)


def test_parts(made: Path, tensors: dict[str, Tensor]) -> None:
    checkpoint = load_checkpoint(str(made))
    parts = {
        "decoder": checkpoint.decoder_state,
        "audio_encoder": checkpoint.codec_state,
        "text_encoder": checkpoint.text_state,
        "enc_to_dec_proj": checkpoint.enc_to_dec_proj or {},
    }
    assert {f"{part}.{name}" for part, state in parts.items() for name in state} == set(tensors)
    assert checkpoint.folder == made
    assert checkpoint.config.decoder.hidden_size == 16
    build_all(made)


def test_any_missing_tensor_is_named(folder: Path, tensors: dict[str, Tensor]) -> None:
    by_kind = {re.sub(r"\d+", "N", name): name for name in tensors}  # one of each kind
    for name in by_kind.values():
        save_file({each: tensor for each, tensor in tensors.items() if each != name}, folder / WEIGHTS)
        if NOT_NEEDED.match(name):
            build_all(folder)
        else:
            wanted = re.sub(r"\.(parametrizations\.weight\.original\d|weight)$", "", name)
            assert wanted in refusal(folder)


def test_any_misshapen_tensor_is_named(folder: Path, tensors: dict[str, Tensor]) -> None:
    by_kind = {re.sub(r"\d+", "N", name): name for name in tensors if not NOT_NEEDED.match(name)}
    for name in by_kind.values():
        save_file({**tensors, name: torch.zeros(3, 5, 7)}, folder / WEIGHTS)
        assert f"{name} has shape (3, 5, 7)" in refusal(folder)


@pytest.mark.parametrize(
    "name",
    [
        "decoder.model.decoder.layers.2.fc1.weight",
        "decoder.model.decoder.layers.0.fc1.bias",
        "decoder.lm_heads.4.weight",
        "enc_to_dec_proj.gain",
        "text_encoder.lm_head.weight",
        "audio_encoder.quantizer.layers.4.codebook.embed",
        "audio_enc_to_dec_proj.weight",
        "stray",
    ],
)
def test_a_left_over_tensor_is_named(folder: Path, tensors: dict[str, Tensor], name: str) -> None:
    save_file({**tensors, name: torch.zeros(1)}, folder / WEIGHTS)
    assert name in refusal(folder)


def test_a_projection_between_equal_widths_is_left_over(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, hidden=32, text_hidden=32)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.enc_to_dec_proj is None
    text = torch.randn(3, 32)
    assert torch.equal(MusicGenDecoder.from_checkpoint(checkpoint).project_text(text), text)
    save_file({**load_file(folder / WEIGHTS), "enc_to_dec_proj.weight": torch.zeros(32, 32)}, folder / WEIGHTS)
    assert "enc_to_dec_proj.weight" in refusal(folder)


def test_positions_written_by_older_versions_are_tolerated(folder: Path, tensors: dict[str, Tensor]) -> None:
    table = {"decoder.model.decoder.embed_positions.weights": torch.zeros(2048, 16)}
    save_file({**tensors, **table}, folder / WEIGHTS)
    build_all(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_run_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = make_checkpoint(tmp_path, dtype=dtype)
    decoder = build_all(folder)
    assert decoder.embedding.dtype == torch.float32
    stored = load_file(folder / WEIGHTS)["decoder.model.decoder.embed_tokens.0.weight"]
    assert stored.dtype == dtype
    assert torch.equal(decoder.embedding[: len(stored)], stored.float())


@pytest.mark.parametrize("dtype", [torch.int8, torch.float64])
def test_a_type_that_can_not_be_served_is_named(folder: Path, tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
    name = "decoder.model.decoder.layers.1.fc2.weight"
    save_file({**tensors, name: tensors[name].to(dtype)}, folder / WEIGHTS)
    assert f"{name} is of type {dtype}" in refusal(folder)


def test_shards_are_the_same_as_one_file(made: Path, tmp_path: Path) -> None:
    model: Any = MusicgenForConditionalGeneration.from_pretrained(made)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert not (tmp_path / WEIGHTS).exists()
    whole, shards = load_checkpoint(made), load_checkpoint(tmp_path)
    assert (whole.config.decoder, whole.config.codec) == (shards.config.decoder, shards.config.codec)
    assert whole.decoder_state.keys() == shards.decoder_state.keys()
    assert all(torch.equal(whole.decoder_state[name], shards.decoder_state[name]) for name in whole.decoder_state)
    missing = sorted(tmp_path.glob("model-*.safetensors"))[1]
    missing.unlink()
    assert f"{missing} is missing" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "can not be read"),
        ("{}", "has no weight_map"),
        (json.dumps({"weight_map": {"x": "../elsewhere.safetensors"}}), "outside its folder"),
        (json.dumps({"weight_map": {"x": "gone.safetensors"}}), "gone.safetensors is missing"),
    ],
)
def test_a_broken_index_is_named(folder: Path, content: str, complaint: str) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(content)
    assert complaint in refusal(folder)


def test_missing_files_are_named(folder: Path) -> None:
    assert "is not a folder" in refusal(folder / "nowhere")
    assert "is not a folder" in refusal(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    assert f"{WEIGHTS} is missing" in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json is missing" in refusal(folder)


def test_truncated_and_broken_weights_are_named(folder: Path) -> None:
    file = folder / WEIGHTS
    content = file.read_bytes()
    for broken in (content[: len(content) // 2], content[:100], content[:4], b"", b"\xff" * 1000, content[:-1]):
        file.write_bytes(broken)
        assert f"{file} can not be read, copy it again" in refusal(folder)
