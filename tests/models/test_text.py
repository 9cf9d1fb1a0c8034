"""The text encoder: equal to transformers' own on the prompt alone, cached, and checked when it is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from models.checkpoint import Checkpoint, load_checkpoint
from models.conditioning.text import CACHED_PROMPTS, TextConditioner, _load_encoder
from models.errors import CheckpointError, InvalidRequestError
from tests.factories import make_checkpoint

PROMPTS = ("a slow piano", " ", "naïve flute, 120 bpm — à la Satie ♫", "x" * 900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return load_checkpoint(folder)


@pytest.fixture(scope="module")
def text(checkpoint: Checkpoint) -> TextConditioner:
    return TextConditioner.from_checkpoint(checkpoint)


@torch.inference_mode()
def test_encodes_as_transformers_does(folder: Path, text: TextConditioner) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt", truncation=True, max_length=512)
        wanted = model.text_encoder(**inputs).last_hidden_state[0]
        encoded = text.encode(prompt)
        assert encoded.dtype == torch.float32
        assert encoded.shape == wanted.shape
        torch.testing.assert_close(encoded, wanted, rtol=1e-5, atol=1e-5)
    assert len(text.encode("x" * 900)) == 512


def test_half_precision_in_the_file_is_float32_here(tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        loaded = load_checkpoint(make_checkpoint(tmp_path / str(dtype), dtype=dtype))
        assert {each.dtype for each in loaded.text_state.values()} == {dtype}
        assert TextConditioner.from_checkpoint(loaded).encode("a flute").dtype == torch.float32


def test_the_latest_prompts_are_kept(checkpoint: Checkpoint) -> None:
    text = TextConditioner.from_checkpoint(checkpoint)
    first = text.encode("one")
    assert text.encode("one") is first
    for number in range(CACHED_PROMPTS):
        text.encode(f"prompt {number}")
    again = text.encode("one")
    assert again is not first
    assert torch.equal(again, first)


def test_the_empty_prompt_is_never_encoded(text: TextConditioner) -> None:
    with pytest.raises(AssertionError, match="null condition"):
        text.encode("")


def test_a_prompt_without_tokens_is_refused(checkpoint: Checkpoint) -> None:
    text = TextConditioner(lambda _text: [], _load_encoder(checkpoint, "cpu"))
    with pytest.raises(InvalidRequestError, match="tokenizer knows"):
        text.encode("?")


Change = Callable[[dict[str, Any]], object]
CHANGES: dict[str, tuple[Change, str]] = {
    "missing": (lambda state: state.pop("encoder.final_layer_norm.weight"), "no tensor text_encoder.encoder.final"),
    "missing table": (lambda state: state.pop("shared.weight"), "no tensor text_encoder.shared.weight"),
    "left over": (lambda state: state.update({"decoder.x": torch.zeros(1)}), "no place for: text_encoder.decoder.x"),
    "misshapen": (
        lambda state: state.update({"encoder.final_layer_norm.weight": torch.zeros(3)}),
        r"text_encoder.encoder.final_layer_norm.weight has shape \(3,\)",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_tensor_is_named(checkpoint: Checkpoint, name: str) -> None:
    change, complaint = CHANGES[name]
    state = dict(checkpoint.text_state)
    change(state)
    with pytest.raises(CheckpointError, match=complaint):
        TextConditioner.from_checkpoint(replace(checkpoint, text_state=state))


def test_the_table_may_have_either_name_or_both(checkpoint: Checkpoint, text: TextConditioner) -> None:
    table = checkpoint.text_state["shared.weight"]
    rest = {name: each for name, each in checkpoint.text_state.items() if name != "shared.weight"}
    tied = {"encoder.embed_tokens.weight": table}
    for state in (rest | tied, rest | tied | {"shared.weight": table}):
        again = TextConditioner.from_checkpoint(replace(checkpoint, text_state=state))
        assert torch.equal(again.encode("a flute"), text.encode("a flute"))


@pytest.mark.parametrize(
    ("key", "value"), [("num_heads", "four"), ("dense_act_fn", "nonsense"), ("d_model", -3), ("vocab_size", None)]
)
def test_a_wrong_setting_is_named(checkpoint: Checkpoint, key: str, value: object) -> None:
    settings = {**checkpoint.config.text.settings, key: value}
    config = replace(checkpoint.config, text=replace(checkpoint.config.text, settings=settings))
    with pytest.raises(CheckpointError, match="text_encoder is not a T5 configuration"):
        TextConditioner.from_checkpoint(replace(checkpoint, config=config))


def test_a_tokenizer_of_another_model_is_refused(checkpoint: Checkpoint, folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(folder / name, tmp_path)
    moved = replace(checkpoint, folder=tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["one too many"] = len(content["model"]["vocab"])
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"knows 260 tokens, text_encoder\.vocab_size = 259"):
        TextConditioner.from_checkpoint(moved)
    file.write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json can not be read"):
        TextConditioner.from_checkpoint(moved)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        TextConditioner.from_checkpoint(moved)
