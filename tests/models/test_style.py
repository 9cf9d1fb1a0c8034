"""How a style is heard: MERT as transformers computes it, and audiocraft's definition of the rest by torch's own."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from models.catalog import describe
from models.checkpoint import Checkpoint, load_checkpoint
from models.checkpoint_files import Format, parts_of
from models.conditioning.mert import MertEncoder
from models.conditioning.resampling import resampled
from models.conditioning.style import StyleConditioner
from models.errors import CheckpointError, InvalidRequestError
from models.style_config import MertConfig, StyleConfig
from models.style_excerpt import excerpt_start
from models.style_prompt import HeardStyle, StylePrompt
from models.types import AudioPrompt, GenerationRequest, SamplingParams
from tests.audiocraft_files import STYLE_ENCODER, save
from tests.style_files import PREFIX, Defined, hubert, make_style, sound

SHAPE: dict[str, Any] = {"hidden": 32, "layers": 1, "heads": 2, "ffn": 64, "text_hidden": 16, "ratios": (4, 2)}
RATE = 400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_style(tmp_path_factory.mktemp("style") / "model", **SHAPE)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


@pytest.fixture(scope="module")
def checkpoint(made: Path) -> Checkpoint:
    return load_checkpoint(made)


# ------------------------------------------------------------------------------------------------------ what is heard


@torch.inference_mode()
def test_mert_is_what_transformers_computes(checkpoint: Checkpoint, made: Path) -> None:
    assert checkpoint.config.style is not None
    ours = MertEncoder(checkpoint.config.style.mert, checkpoint.style_encoder_state)
    theirs = hubert(made / STYLE_ENCODER)
    for seconds in (1.5, 1.99, 3.0):
        samples = sound(seconds, 24_000, 440.0)
        wanted = theirs(samples[None]).last_hidden_state[0]
        assert wanted.std() > 0.3
        torch.testing.assert_close(ours.encode(samples), wanted, atol=2e-5, rtol=1e-4)
        assert ours.config.frames(len(samples)) == len(wanted)


@pytest.mark.parametrize("streams", [1, 3, 6])
def test_a_style_is_heard_as_it_is_defined(streams: int, checkpoint: Checkpoint, made: Path) -> None:
    conditioner = StyleConditioner.from_checkpoint(checkpoint)
    assert conditioner is not None
    samples = sound(3.0, RATE)
    codes, embeddings = Defined(made)(resampled(samples, RATE, 24_000), streams)
    heard = conditioner.heard(samples, streams)
    assert heard.shape == (streams, 15)
    assert torch.equal(heard.long(), codes)
    assert len(codes.unique()) > 2 * streams
    style = HeardStyle((b"", heard.numpy().tobytes()), streams)
    torch.testing.assert_close(conditioner.embed(style, 1), embeddings, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("seconds", "positions"), [(1.5, 8), (2.0, 10), (3.0, 15), (4.5, 23)])
def test_an_excerpt_is_five_positions_a_second(seconds: float, positions: int, checkpoint: Checkpoint) -> None:
    conditioner, config = StyleConditioner.from_checkpoint(checkpoint), checkpoint.config.style
    assert conditioner is not None
    assert config is not None
    assert conditioner.heard(sound(seconds, RATE), 2).shape == (2, positions)
    assert config.positions(int(seconds * RATE), RATE) == positions
    assert StyleConfig(MertConfig()).positions(int(seconds * 32_000), 32_000) == positions


def test_a_sound_at_another_rate_is_the_same_sound() -> None:
    for old, new in ((32_000, 24_000), (400, 24_000), (24_000, 24_000)):
        samples, wanted = sound(0.5, old, 60.0) - sound(0.5, old, 0.0), sound(0.5, new, 60.0) - sound(0.5, new, 0.0)
        made = resampled(samples, old, new)
        assert len(made) == len(wanted)
        middle = slice(len(made) // 4, 3 * len(made) // 4)
        torch.testing.assert_close(made[middle], wanted[middle], atol=2e-3, rtol=0)
    assert len(resampled(torch.ones(7), 32_000, 24_000)) == 5
    torch.testing.assert_close(resampled(torch.ones(700), 32_000, 24_000), torch.ones(525))


def test_excerpts_are_drawn_from_the_seed_all_alike() -> None:
    starts = [excerpt_start(seed, 0, 9) for seed in range(4000)]
    assert set(starts) == set(range(10))
    assert all(330 < starts.count(place) < 470 for place in range(10))
    assert excerpt_start(5, 0, 10**6) == excerpt_start(5, 0, 10**6)
    assert len({excerpt_start(5, frame, 10**6) for frame in (0, 900, 1800)}) == 3
    assert excerpt_start(2**63 - 1, 1, 0) == 0


# --------------------------------------------------------------------------------------------------- the checkpoint


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


def edit(folder: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> None:
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    settings, state = yaml.safe_load(package["xp.cfg"]), package["best_state"]
    change(settings["conditioners"]["self_wav"]["style"], state)
    save({"best_state": state, "xp.cfg": yaml.safe_dump(settings)}, folder / "state_dict.bin")


def test_a_style_model_says_that_it_takes_one(made: Path, checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    assert (config.conditioners, config.takes_style, config.takes_melody) == (("style", "text"), True, False)
    assert not config.decoder.cross_attention
    assert config.longest_prefix == 23 + 512
    assert describe(made).style == config.style
    assert parts_of(checkpoint_files := describe_files(made))[-1] == (made / STYLE_ENCODER, Format.STYLE_ENCODER)
    assert checkpoint_files.style_encoder is None  # it was found


def describe_files(folder: Path) -> Any:
    from models.checkpoint_files import CheckpointFiles

    return CheckpointFiles(folder)


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("model_name", "encodec", "model_name = 'encodec' is not supported, it must be 'mert'"),
        ("transformer_scale", "huge", "transformer_scale = 'huge' is none of xsmall, default"),
        ("eval_q", 7, "eval_q = 7 must be 1 to n_q_out = 6"),
        ("length", 9.0, "length = 9 s must be 1.5 to 4.5 s"),
        ("ds_factor", 0, "ds_factor = 0 at least 1"),
        ("novelty", 1, "novelty = 1 is not a known setting"),
        ("n_q_out", 5, "rvq.vq.layers.5._codebook.embed"),
        ("transformer_scale", "default", "self_wav.embed.weight has shape (256, 32), the config calls for (512, 32)"),
    ],
)
def test_a_setting_that_is_not_supported_is_named(setting: str, value: object, complaint: str, folder: Path) -> None:
    edit(folder, lambda style, _: style.update({setting: value}))
    assert complaint in refusal(folder)


@pytest.mark.parametrize("name", ["embed.bias", "batch_norm.running_var", "transformer.layers.3.norm2.weight"])
def test_a_missing_tensor_is_named(name: str, folder: Path) -> None:
    edit(folder, lambda _, state: state.__delitem__(PREFIX + name))
    assert f"no tensor best_state.{PREFIX}{name}" in refusal(folder)


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("do_stable_layer_norm", True, "do_stable_layer_norm = True is not supported"),
        ("feature_extractor_cqt", True, "feature_extractor_cqt = True is not supported"),
        ("model_type", "bert", "model_type = 'bert' is not supported"),
        ("conv_stride", [5, 2], "conv_dim, conv_kernel and conv_stride must be of equal length"),
        ("num_attention_heads", 5, "must be a multiple of num_attention_heads = 5"),
    ],
)
def test_another_mert_is_refused(setting: str, value: object, complaint: str, folder: Path) -> None:
    file = folder / STYLE_ENCODER / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {setting: value}))
    assert complaint in refusal(folder)


def test_mert_that_is_nowhere_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    shutil.move(folder / STYLE_ENCODER, tmp_path / "elsewhere")
    message = refusal(folder)
    assert "only names its style encoder, 'm-a-p/MERT-v1-95M'" in message
    assert "`hf download m-a-p/MERT-v1-95M`, or add the model with --style-encoder FOLDER" in message


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "pytorch_model.bin is missing"), ({"a": [1]}, "more than tensors by their names")]
)
def test_broken_weights_of_mert_are_said(content: Any, complaint: str, folder: Path) -> None:
    file = folder / STYLE_ENCODER / "pytorch_model.bin"
    file.unlink()
    if content is not None:
        torch.save(content, file)
    assert complaint in refusal(folder)


def test_mert_may_be_saved_as_safetensors_with_newer_names(folder: Path, checkpoint: Checkpoint) -> None:
    save_file(hubert(folder / STYLE_ENCODER).state_dict(), folder / STYLE_ENCODER / "model.safetensors")
    (folder / STYLE_ENCODER / "pytorch_model.bin").unlink()
    newer, older = (StyleConditioner.from_checkpoint(each) for each in (load_checkpoint(folder), checkpoint))
    assert newer is not None
    assert older is not None
    assert torch.equal(newer.heard(sound(1.5, RATE), 6), older.heard(sound(1.5, RATE), 6))


def test_a_misshapen_tensor_of_mert_is_named(folder: Path) -> None:
    file = folder / STYLE_ENCODER / "pytorch_model.bin"
    state = torch.load(file, weights_only=True)
    torch.save(state | {"encoder.layer_norm.bias": torch.zeros(3)}, file)
    with pytest.raises(CheckpointError, match=r"style_encoder\.encoder\.layer_norm\.bias has shape \(3,\)"):
        StyleConditioner.from_checkpoint(load_checkpoint(folder))


# ------------------------------------------------------------------------------------------------------- the request


def prompt(seconds: float = 2.0, **settings: Any) -> StylePrompt:
    return StylePrompt(AudioPrompt(bytes(4 * int(seconds * RATE)), 1, RATE), **settings)


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"excerpt_s": 1.4}, "style_excerpt"),
        ({"excerpt_s": 4.6}, "style_excerpt"),
        ({"excerpt_s": math.nan}, "style_excerpt"),
        ({"excerpt_s": "3"}, "style_excerpt"),
        ({"streams": 0}, "style_streams"),
        ({"streams": True}, "style_streams"),
        ({"seconds": 1.49}, "style"),
    ],
)
def test_what_can_not_be_a_style(settings: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        prompt(**settings)
    assert refused.value.param == param


@pytest.mark.parametrize("beta", [0.99, 10.1, math.inf, "3", True])
def test_a_beta_out_of_range_is_refused(beta: Any) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        SamplingParams(guidance_beta=beta)
    assert refused.value.param == "guidance_beta"


@pytest.mark.parametrize(
    ("text", "has_style", "guidance", "beta", "rows"),
    [
        ("x", True, 3.0, None, 3),
        ("x", True, 3.0, 2.0, 3),
        ("x", True, 3.0, 1.0, 2),
        ("x", True, 1.0, 5.0, 1),
        ("", True, 3.0, 5.0, 2),
        ("x", False, 3.0, None, 2),
        ("", False, 3.0, None, 1),
    ],
)
def test_rows_of_a_request(text: str, has_style: bool, guidance: float, beta: float | None, rows: int) -> None:
    sampling = SamplingParams(guidance=guidance, guidance_beta=beta)
    request = GenerationRequest("r", text, 1.0, sampling=sampling, style=prompt() if has_style else None)
    assert request.num_rows == rows
    assert (request.guidance_beta > 1) == (rows == 3)
    assert GenerationRequest("r", text, 1.0, melody=prompt().audio).num_rows == 2, "as before there was a beta"
