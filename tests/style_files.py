"""Random-weight style models in audiocraft's format: the only one there is of them. MERT is a small one beside."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from transformers import HubertConfig, HubertModel

from tests.audiocraft_files import STYLE_ENCODER, export, listens_to, save
from tests.factories import make_checkpoint

PREFIX = "condition_provider.conditioners.self_wav."
WIDTH, LAYERS, HEADS, STREAMS, BINS = 256, 4, 8, 6, 64
"""Of the smallest transformer that has a name ("xsmall"), and of its codes."""
MERT_WIDTH = 32

MERT_SETTINGS: dict[str, Any] = {
    "model_type": "mert_model",
    "sample_rate": 24_000,
    "feature_extractor_cqt": False,
    "attention_relax": -1.0,
    "deepnorm": False,
}
"""What MERT's ``config.json`` says besides a HuBERT's."""


def make_style(folder: str | Path, beside: Path | None = None, **shape: Any) -> Path:
    """Write a style model; the same arguments give the same weights.

    Args:
        beside: where the melody model that it was made of is written, in transformers format.
        shape: as of `make_checkpoint`; its decoder is that of a melody model, without cross-attention.
    """
    path = Path(folder)
    with tempfile.TemporaryDirectory() as place:
        melody = make_checkpoint(beside or Path(place) / "melody", melody=True, **shape)
        export(melody, path, codec_inside=True)
    package = torch.load(path / "state_dict.bin", weights_only=True)
    settings = listens_to(yaml.safe_load(package["xp.cfg"]), "style", transformer_scale="xsmall", bins=BINS)
    kept = {name: tensor for name, tensor in package["best_state"].items() if not name.startswith(PREFIX)}
    width = len(package["best_state"]["out_norm.weight"])
    state = {**kept, **{PREFIX + name: tensor for name, tensor in style_state(width).items()}}
    make_mert(path / STYLE_ENCODER)
    save({"best_state": state, "xp.cfg": yaml.safe_dump(settings)}, path / "state_dict.bin")
    hidden = Defined(path).hidden(sound(4.0))[0]
    state[f"{PREFIX}batch_norm.running_mean"] = hidden.mean(0)  # so that codes vary, as those of trained models do
    state[f"{PREFIX}batch_norm.running_var"] = hidden.var(0)
    save({"best_state": state, "xp.cfg": yaml.safe_dump(settings)}, path / "state_dict.bin")
    return path


def make_mert(folder: Path) -> HubertModel:
    """MERT as it is published: a HuBERT's weights in a file of ``torch.save``, normalised in the older spelling."""
    torch.manual_seed(7)
    config = HubertConfig(
        hidden_size=MERT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    model = HubertModel(config).eval()
    drawn = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            gain = 1.5 / max(1, tensor[0].numel()) ** 0.5 if tensor.dim() > 1 else 0.3
            tensor.add_(torch.randn(tensor.shape, generator=drawn) * gain)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), **MERT_SETTINGS}))
    renamed = {"original0": "weight_g", "original1": "weight_v"}
    state = {}
    for name, tensor in model.state_dict().items():
        head, _, last = name.rpartition(".")
        state[f"{head.removesuffix('.parametrizations.weight')}.{renamed[last]}" if last in renamed else name] = tensor
    torch.save(state, folder / "pytorch_model.bin")
    return model


def style_state(decoder_width: int) -> dict[str, Tensor]:
    """What a style model has besides, by audiocraft's names below ``self_wav.``."""
    drawn = torch.Generator().manual_seed(8)

    def matrix(*shape: int) -> Tensor:
        return torch.randn(shape, generator=drawn) * float(1.5 / shape[-1] ** 0.5)

    def vector(size: int, around: float = 0.0) -> Tensor:
        return around + 0.3 * torch.randn(size, generator=drawn)

    state = {
        "embed.weight": matrix(WIDTH, MERT_WIDTH),
        "embed.bias": vector(WIDTH),
        "output_proj.weight": matrix(decoder_width, WIDTH),
        "output_proj.bias": vector(decoder_width),
        "batch_norm.running_mean": vector(WIDTH),
        "batch_norm.running_var": vector(WIDTH, 2.0).abs() + 1,
        "batch_norm.num_batches_tracked": torch.tensor(9),
    }
    for index in range(LAYERS):
        layer = f"transformer.layers.{index}"
        state[f"{layer}.self_attn.in_proj_weight"] = matrix(3 * WIDTH, WIDTH)
        state[f"{layer}.self_attn.out_proj.weight"] = matrix(WIDTH, WIDTH)
        state[f"{layer}.linear1.weight"] = matrix(4 * WIDTH, WIDTH)
        state[f"{layer}.linear2.weight"] = matrix(WIDTH, 4 * WIDTH)
        for norm in ("norm1", "norm2"):
            state[f"{layer}.{norm}.weight"], state[f"{layer}.{norm}.bias"] = vector(WIDTH, 1.0), vector(WIDTH)
    for stream in range(STREAMS):
        codebook = f"rvq.vq.layers.{stream}._codebook"
        embed = torch.randn(BINS, WIDTH, generator=drawn) * 0.7**stream
        state |= {f"{codebook}.embed": embed, f"{codebook}.embed_avg": embed.clone()}
        state |= {f"{codebook}.inited": torch.ones(1), f"{codebook}.cluster_size": torch.ones(BINS)}
    return state


def sound(seconds: float, rate: int = 24_000, hertz: float = 40.0) -> Tensor:
    times = torch.arange(int(seconds * rate)) / rate
    noise = torch.randn(len(times), generator=torch.Generator().manual_seed(len(times)))
    return (0.5 * torch.sin(2 * math.pi * hertz * times) + 0.1 * noise).float()


def hubert(folder: Path) -> HubertModel:
    """MERT, by transformers."""
    settings = json.loads((folder / "config.json").read_text()) | {"model_type": "hubert"}
    model = HubertModel(HubertConfig.from_dict(settings)).eval()
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    newer = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    for old, new in newer.items():
        state[f"encoder.pos_conv_embed.conv.{new}"] = state.pop(f"encoder.pos_conv_embed.conv.{old}")
    model.load_state_dict(state)
    return model


class Defined(nn.Module):
    """audiocraft's conditioner (docs and paper), of torch's own modules and transformers' HuBERT."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        package = torch.load(folder / "state_dict.bin", weights_only=True)
        state = {name.removeprefix(PREFIX): each for name, each in package["best_state"].items() if PREFIX in name}
        self.mert = hubert(folder / STYLE_ENCODER)
        self.embed = nn.Linear(MERT_WIDTH, WIDTH)
        one = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True, bias=False
        )
        for norm in ("norm1", "norm2"):
            setattr(one, norm, nn.LayerNorm(WIDTH))
        self.transformer = nn.TransformerEncoder(one, LAYERS, enable_nested_tensor=False)
        self.batch_norm = nn.BatchNorm1d(WIDTH, affine=False)
        self.output_proj = nn.Linear(WIDTH, len(state["output_proj.bias"]))
        self.codebooks = [state.pop(f"rvq.vq.layers.{each}._codebook.embed") for each in range(STREAMS)]
        missing = self.load_state_dict({name: each for name, each in state.items() if "rvq" not in name}, strict=False)
        assert all(name.startswith("mert.") for name in missing.missing_keys)
        assert not missing.unexpected_keys
        self.eval()

    @torch.inference_mode()
    def hidden(self, samples: Tensor) -> Tensor:
        """[1, frames, WIDTH], before it is normalised."""
        hidden = self.embed(self.mert(samples[None]).last_hidden_state)
        half = WIDTH // 2
        phases = torch.arange(hidden.shape[1])[:, None] / 10_000 ** (torch.arange(half) / (half - 1))
        made: Tensor = self.transformer(hidden + torch.cat([phases.cos(), phases.sin()], 1))
        return made

    @torch.inference_mode()
    def forward(self, samples: Tensor, streams: int) -> tuple[Tensor, Tensor]:
        """Codes [streams, positions] and embeddings [positions, D] of sound at 24 kHz."""
        rest = self.batch_norm(self.hidden(samples).transpose(1, 2)).transpose(1, 2)[0]
        codes, quantised = [], torch.zeros_like(rest)
        for codebook in self.codebooks[:streams]:
            codes.append(torch.cdist(rest, codebook).argmin(1))
            quantised, rest = quantised + codebook[codes[-1]], rest - codebook[codes[-1]]
        return torch.stack(codes)[:, ::15], self.output_proj(quantised[::15])
