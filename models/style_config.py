"""How a style model hears the music that it is to sound like: frozen numbers, checked once. No torch here.

    sound ─► excerpt ─► MERT, 75 frames a second ─► transformer ─► residual codes ─► every 15th frame ─► positions

From audiocraft's main branch (modules/conditioners.py, config/conditioner/style2music.yaml) and Rouard et al., "Audio
Conditioning for Music Generation via Discrete Bottleneck Features" (2024), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.errors import CheckpointError

SHORTEST_EXCERPT_S, LONGEST_EXCERPT_S = 1.5, 4.5
"""What such a model was trained on."""

MERT = "m-a-p/MERT-v1-95M"
"""The one encoder that audiocraft's style models are made for; their files do not name it."""

_MERT_REQUIRED: Mapping[str, object] = {
    "model_type": "mert_model",
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "hidden_act": "gelu",
    "feat_proj_layer_norm": True,
    "do_stable_layer_norm": False,
    "deepnorm": False,
    "feature_extractor_cqt": False,
    "attention_relax": -1.0,
    "conv_pos_batch_norm": False,
}


@dataclass(frozen=True, slots=True)
class MertConfig:
    """MERT as its ``config.json`` has it: with these settings it is a HuBERT.

    Attributes:
        hidden_size: width of what it makes of each frame.
        conv_channels, conv_kernels, conv_strides: of the convolutions that make frames of samples.
        position_kernel, position_groups: of the convolution that tells frames where they are.
        sample_rate: Hz, of the sound it takes.
    """

    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    ffn_dim: int = 3072
    conv_channels: tuple[int, ...] = (512,) * 7
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    position_kernel: int = 128
    position_groups: int = 16
    eps: float = 1e-5
    sample_rate: int = 24_000

    def __post_init__(self) -> None:
        if not len(self.conv_channels) == len(self.conv_kernels) == len(self.conv_strides):
            raise CheckpointError("MERT's config.json: conv_dim, conv_kernel and conv_stride must be of equal length")
        sizes = (*self.conv_channels, *self.conv_kernels, *self.conv_strides, self.num_heads, self.position_groups)
        if min(*sizes, self.num_layers, self.ffn_dim, self.position_kernel, self.sample_rate) < 1:
            raise CheckpointError("MERT's config.json: every size must be at least 1")
        if self.hidden_size % self.num_heads or self.hidden_size % self.position_groups:
            raise CheckpointError(
                f"MERT's config.json: hidden_size = {self.hidden_size} must be a multiple of num_attention_heads = "
                f"{self.num_heads} and of num_conv_pos_embedding_groups = {self.position_groups}"
            )

    @classmethod
    def required(cls) -> Mapping[str, object]:
        """Settings of ``config.json`` that have but one value here."""
        return _MERT_REQUIRED

    def frames(self, samples: int) -> int:
        """Frames of so many samples at ``sample_rate``; 0 where they are too few for one."""
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors, by their names in transformers."""
        shapes: dict[str, tuple[int, ...]] = {}
        before = 1
        for index, (channels, kernel) in enumerate(zip(self.conv_channels, self.conv_kernels, strict=True)):
            shapes[f"feature_extractor.conv_layers.{index}.conv.weight"] = (channels, before, kernel)
            if self.conv_bias:
                shapes[f"feature_extractor.conv_layers.{index}.conv.bias"] = (channels,)
            before = channels
        shapes |= _norm("feature_extractor.conv_layers.0.layer_norm", self.conv_channels[0])
        shapes |= _norm("feature_projection.layer_norm", before)
        width = self.hidden_size
        shapes |= _linear("feature_projection.projection", width, before)
        position = "encoder.pos_conv_embed.conv"
        shapes[f"{position}.weight_g"] = (1, 1, self.position_kernel)
        shapes[f"{position}.weight_v"] = (width, width // self.position_groups, self.position_kernel)
        shapes[f"{position}.bias"] = (width,)
        shapes |= _norm("encoder.layer_norm", width)
        for index in range(self.num_layers):
            layer = f"encoder.layers.{index}"
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes |= _linear(f"{layer}.attention.{name}", width, width)
            shapes |= _linear(f"{layer}.feed_forward.intermediate_dense", self.ffn_dim, width)
            shapes |= _linear(f"{layer}.feed_forward.output_dense", width, self.ffn_dim)
            shapes |= _norm(f"{layer}.layer_norm", width) | _norm(f"{layer}.final_layer_norm", width)
        return shapes


@dataclass(frozen=True, slots=True)
class StyleConfig:
    """
    Attributes:
        hidden_size, num_layers, num_heads: of the transformer after MERT; its feed-forward is four times as wide.
        streams: residual codes of a frame.
        bins: codes of a stream.
        heard_streams: of those that are listened to unless a request says otherwise; fewer say less of the excerpt.
        stride: of that many frames one is listened to.
        excerpt_s: seconds of the sound, unless a request says otherwise.
        batch_norm: before the codes are chosen.
    """

    mert: MertConfig
    hidden_size: int = 512
    num_layers: int = 8
    num_heads: int = 8
    streams: int = 6
    bins: int = 1024
    heard_streams: int = 3
    stride: int = 15
    excerpt_s: float = 3.0
    batch_norm: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.heard_streams <= self.streams:
            raise CheckpointError(f"style config: eval_q = {self.heard_streams} must be 1 to n_q_out = {self.streams}")
        if not 2 <= self.bins <= 2**15 or self.stride < 1:
            raise CheckpointError(
                f"style config: bins = {self.bins} must be 2 to {2**15}, ds_factor = {self.stride} at least 1"
            )
        if not SHORTEST_EXCERPT_S <= self.excerpt_s <= LONGEST_EXCERPT_S:
            raise CheckpointError(
                f"style config: length = {self.excerpt_s:g} s must be {SHORTEST_EXCERPT_S:g} to {LONGEST_EXCERPT_S:g} s"
            )

    def positions(self, samples: int, sample_rate: int) -> int:
        """That the decoder hears of an excerpt of so many samples."""
        frames = self.mert.frames(samples * self.mert.sample_rate // sample_rate)
        return -(-frames // self.stride)

    @property
    def longest(self) -> int:
        """Positions of the longest excerpt."""
        rate = self.mert.sample_rate
        return self.positions(int(LONGEST_EXCERPT_S * rate), rate)

    def shapes(self, decoder_width: int) -> dict[str, tuple[int, ...]]:
        """Of the tensors after MERT, by audiocraft's names below ``conditioners.self_wav.``."""
        width = self.hidden_size
        shapes = _linear("embed", width, self.mert.hidden_size) | _linear("output_proj", decoder_width, width)
        for index in range(self.num_layers):
            layer = f"transformer.layers.{index}"
            shapes[f"{layer}.self_attn.in_proj_weight"] = (3 * width, width)
            shapes[f"{layer}.self_attn.out_proj.weight"] = (width, width)
            shapes[f"{layer}.linear1.weight"] = (4 * width, width)
            shapes[f"{layer}.linear2.weight"] = (width, 4 * width)
            shapes |= _norm(f"{layer}.norm1", width) | _norm(f"{layer}.norm2", width)
        if self.batch_norm:
            shapes |= {f"batch_norm.running_{name}": (width,) for name in ("mean", "var")}
        return shapes | {
            f"rvq.vq.layers.{stream}._codebook.embed": (self.bins, width) for stream in range(self.streams)
        }


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
