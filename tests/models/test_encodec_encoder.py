"""Samples to codes equal transformers' ``EncodecModel.encode`` on the same weights, code by code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models.encodec import encoder as encoding
from models.encodec.encoder import EncodecEncoder, has_encoder
from models.errors import CheckpointError
from tests.models.codec_examples import codec_config, random_encodec

GEOMETRIES: dict[str, dict[str, Any]] = {
    "published": {},
    "constant": {"pad_mode": "constant"},
    "odd": {"upsampling_ratios": [5, 3], "num_lstm_layers": 1},
    "dilated": {"upsampling_ratios": [4, 2], "num_residual_layers": 3, "dilation_growth_rate": 2},
    "shortcuts": {"upsampling_ratios": [4, 2], "pad_mode": "constant", "use_conv_shortcut": True},
}


def pair(geometry: str) -> tuple[Any, EncodecEncoder, dict[str, Tensor]]:
    """One random codec of few codes, transformers' and ours, and its tensors."""
    theirs = random_encodec(codebook_size=64, **GEOMETRIES[geometry])
    state = dict(theirs.state_dict())
    return theirs, EncodecEncoder(codec_config(theirs.config), state), state


def noise(batch: int, samples: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, samples, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.inference_mode()
def their_codes(theirs: Any, samples: Tensor) -> Tensor:
    codes: Tensor = theirs.encode(samples[:, None]).audio_codes[0]
    return codes


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_codes_are_transformers(geometry: str) -> None:
    """Clips of whole frames and of parts of one, down to a single sample."""
    theirs, ours, _ = pair(geometry)
    hop = ours.config.hop_length
    for frames, rest in ((12, 0), (7, 1), (5, hop - 1), (1, 0), (2, hop // 2)):
        samples = noise(2, frames * hop + rest, seed=frames)
        codes = ours.encode(samples)
        assert codes.shape == (2, 4, frames + (rest > 0))
        assert torch.equal(codes, their_codes(theirs, samples)), f"{frames} frames and {rest} samples"
        assert frames < 12 or len(set(codes.flatten().tolist())) > 16


@pytest.mark.parametrize("geometry", ["published", "dilated"])
def test_a_long_clip_is_encoded_in_pieces_and_as_a_whole_alike(geometry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours, _ = pair(geometry)
    monkeypatch.setattr(encoding, "_PIECE_FRAMES", 7)
    samples = noise(1, 40 * ours.config.hop_length + 3, seed=9)
    assert torch.equal(ours.encode(samples), their_codes(theirs, samples))


def test_a_checkpoint_without_an_encoder_is_told_from_a_broken_one() -> None:
    _, ours, state = pair("odd")
    assert has_encoder(state)
    decoding = {name: tensor for name, tensor in state.items() if not name.startswith("encoder.")}
    assert not has_encoder(decoding)
    lost = {name: tensor for name, tensor in state.items() if name != "encoder.layers.0.conv.bias"}
    with pytest.raises(CheckpointError, match=r"audio_encoder\.encoder\.layers\.0\.conv\.bias"):
        EncodecEncoder(ours.config, lost)
