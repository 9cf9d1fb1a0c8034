"""Whole clips: our decoder equals transformers' on the same weights, and refuses what it would decode wrongly."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration

from models.checkpoint import load_checkpoint
from models.encodec.decoder import EncodecDecoder
from models.errors import CheckpointError
from tests.factories import make_checkpoint
from tests.models.codec_examples import Example, codec_config, make_example, random_encodec, their_decode

VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "constant padding": {"pad_mode": "constant"},
    "shortcut and two residual layers": {"use_conv_shortcut": True, "num_residual_layers": 2, "hidden_size": 8},
    "dilated, reflected far": {"num_residual_layers": 3, "dilation_growth_rate": 3, "upsampling_ratios": [4, 2]},
    "other kernels": {"kernel_size": 5, "last_kernel_size": 3, "residual_kernel_size": 5, "compress": 4},
    "odd ratios, one LSTM layer": {"upsampling_ratios": [3, 2, 1], "num_lstm_layers": 1},
    "no memory at the edges": {"kernel_size": 1, "last_kernel_size": 1, "num_residual_layers": 0},
}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equals_transformers(variant: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    example = make_example(dtype, **variant)
    for frames in (1, 2, 3, 4, 5, 17):
        codes = example.random_codes(frames, batch=2, seed=frames)
        torch.testing.assert_close(example.ours.decode(codes), their_decode(example, codes), atol=tolerance, rtol=0)


def test_equals_transformers_over_many_internal_steps() -> None:
    example = make_example(num_filters=2)
    codes = example.random_codes(300)
    samples = example.ours.decode(codes)
    assert samples.shape == (1, 1, 300 * 640)
    torch.testing.assert_close(samples, their_decode(example, codes), atol=1e-5, rtol=0)


def test_pad_modes_matter_at_both_ends() -> None:
    reflect, constant = make_example(), make_example(pad_mode="constant")
    codes = reflect.random_codes(60)
    difference = (reflect.ours.decode(codes) - constant.ours.decode(codes)).abs()
    assert difference[..., :640].max() > 1e-3
    assert difference[..., -640:].max() > 1e-3


def test_half_precision_weights_stay_close_and_samples_leave_in_single() -> None:
    example = make_example()
    half = EncodecDecoder.from_state(example.ours.config, example.theirs.state_dict(), dtype=torch.bfloat16)
    codes = example.random_codes(20)
    exact, rounded = example.ours.decode(codes), half.decode(codes)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).pow(2).mean().sqrt() < 0.05 * exact.pow(2).mean().sqrt()


def test_reads_every_spelling_of_weight_normalisation() -> None:
    example = make_example()
    state, codes = example.theirs.state_dict(), example.random_codes(4)
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in state.items()
    }
    for module in example.theirs.modules():
        if hasattr(module, "parametrizations"):
            torch.nn.utils.parametrize.remove_parametrizations(module, "weight")
    folded = dict(example.theirs.state_dict())
    assert any(name.endswith("weight_g") for name in old)
    assert any(name.endswith("conv.weight") for name in folded)
    for spelling in (old, folded):
        again = EncodecDecoder.from_state(example.ours.config, spelling)
        torch.testing.assert_close(again.decode(codes), example.ours.decode(codes), atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def example() -> Example:
    return make_example(num_filters=2, upsampling_ratios=[2, 2], codebook_size=16)


def test_every_missing_tensor_is_named(example: Example) -> None:
    state = example.theirs.state_dict()
    needed = [name for name in state if name.startswith("decoder.") or name.endswith("codebook.embed")]
    assert len(needed) > 20
    for name in needed:
        with pytest.raises(CheckpointError, match="no tensor audio_encoder") as refusal:
            EncodecDecoder.from_state(example.ours.config, {key: state[key] for key in state if key != name})
        assert name in str(refusal.value)


def test_a_misshapen_tensor_is_named_with_both_shapes(example: Example) -> None:
    state: dict[str, Tensor] = dict(example.theirs.state_dict())
    state["quantizer.layers.1.codebook.embed"] = torch.zeros(16, 3)
    with pytest.raises(CheckpointError, match=r"layers\.1\.codebook\.embed has shape \(16, 3\).* \(16, 16\)"):
        EncodecDecoder.from_state(example.ours.config, state)


def test_left_over_tensors_are_named(example: Example) -> None:
    state: dict[str, Tensor] = dict(example.theirs.state_dict())
    with pytest.raises(CheckpointError, match=r"no place for: audio_encoder\.decoder\.layers\.77\.conv\.bias"):
        EncodecDecoder.from_state(example.ours.config, state | {"decoder.layers.77.conv.bias": torch.zeros(1)})
    fewer = dataclasses.replace(example.ours.config, num_quantizers=2)
    with pytest.raises(CheckpointError, match=r"quantizer\.layers\.2\.codebook\.embed"):
        EncodecDecoder.from_state(fewer, state)


def test_numbers_that_are_none_are_refused(example: Example) -> None:
    state: dict[str, Tensor] = dict(example.theirs.state_dict())
    bias, gain = "decoder.layers.0.conv.bias", "decoder.layers.0.conv.parametrizations.weight.original0"
    for broken in ({bias: state[bias] * torch.nan}, {gain: state[gain] * torch.inf}, {bias: state[bias].long()}):
        with pytest.raises(CheckpointError, match=r"audio_encoder\.decoder\.layers\.0\.conv\.(bias|weight) must hold"):
            EncodecDecoder.from_state(example.ours.config, state | broken)


@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_reads_a_checkpoint_folder(tmp_path: Path, pad_mode: str) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint", pad_mode=pad_mode)
    ours = EncodecDecoder.from_checkpoint(load_checkpoint(folder))
    theirs = MusicgenForConditionalGeneration.from_pretrained(folder).audio_encoder.eval()
    codec = Example(theirs, ours)
    codes = codec.random_codes(12)
    torch.testing.assert_close(ours.decode(codes), their_decode(codec, codes), atol=1e-5, rtol=0)


def test_the_encoder_and_the_codebooks_statistics_may_be_absent(example: Example) -> None:
    state = example.theirs.state_dict()
    needed = {name: state[name] for name in state if name.startswith("decoder.") or name.endswith(".embed")}
    assert len(needed) < len(state)
    codes = example.random_codes(3)
    again = EncodecDecoder.from_state(example.ours.config, needed)
    torch.testing.assert_close(again.decode(codes), example.ours.decode(codes), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_causal_conv", True),
        ("norm_type", "time_group_norm"),
        ("normalize", True),
        ("trim_right_ratio", 0.5),
        ("audio_channels", 2),
        ("codebook_dim", 64),
        ("pad_mode", "replicate"),
        ("kernel_size", 6),
        ("last_kernel_size", 0),
        ("residual_kernel_size", 2),
        ("num_lstm_layers", 0),
        ("num_filters", 0),
        ("compress", 0),
        ("compress", 5),
        ("upsampling_ratios", ()),
        ("upsampling_ratios", (4, 0)),
    ],
)
def test_an_unsupported_config_value_is_named(name: str, value: object) -> None:
    config = codec_config(random_encodec().config)
    changes: dict[str, Any] = {name: value}
    with pytest.raises(CheckpointError, match=f"{name} = "):
        EncodecDecoder(dataclasses.replace(config, **changes))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.full((1, 4, 3), 16), r"in \[0, 16\), got 16 … 16"),
        (torch.full((1, 4, 3), -1), "got -1"),
        (torch.zeros(1, 3, 3, dtype=torch.long), r"\[B, 4, frames >= 1\]"),
        (torch.zeros(4, 3, dtype=torch.long), r"\[B, 4, frames >= 1\]"),
        (torch.zeros(1, 4, 0, dtype=torch.long), "frames >= 1"),
        (torch.zeros(1, 4, 3), "must be integers"),
    ],
)
def test_codes_that_are_none_are_refused(example: Example, codes: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        example.ours.decode(codes)
