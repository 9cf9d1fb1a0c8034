"""What a model is: frozen numbers, checked once. No torch here. How an engine runs it: `models.engine_config`.

The names are ours; ``models.config_file`` reads them from a transformers ``config.json``, ``models.audiocraft.config``
from an audiocraft checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import CheckpointError
from models.style_config import StyleConfig

if TYPE_CHECKING:
    from models.checkpoint_files import CheckpointFiles

MAX_DURATION_S = 30.0
"""MusicGen was trained on 30 s: one window."""

NUM_CHROMA, CHROMA_FRAMES = 12, 235
"""Pitch classes of a melody, and how many of them one after the other a melody model hears: 30 s."""


@dataclass(frozen=True, slots=True)
class TextEncoderConfig:
    """The T5 encoder, which transformers runs.

    Attributes:
        hidden_size: D_text, width of the encoded text.
        max_tokens: longer prompts are cut to this many tokens.
        settings: the ``text_encoder`` section of ``config.json``, for transformers to read.
    """

    hidden_size: int
    max_tokens: int = 512
    settings: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """The transformer that writes codes.

    Attributes:
        hidden_size: D.
        num_codebooks: K, over all channels: stereo interleaves [1L, 1R, 2L, 2R, …].
        vocab_size: V; the special token's id is V, so tables have V + 1 rows and heads V outputs.
        audio_channels: 1 or 2.
        text_hidden_size: D_text; where it equals D the checkpoint has no projection.
        max_positions: as the checkpoint states it. Positions are computed, so this limits nothing: see num_positions.
        cross_attention: every layer attends to the text; where not, what a row listens to comes before its codes, as
            positions of its own.

    Raises:
        CheckpointError: naming the value that cannot be.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    num_codebooks: int
    vocab_size: int
    audio_channels: int
    text_hidden_size: int
    max_positions: int = 2048
    cross_attention: bool = True

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_heads", "ffn_dim", "num_codebooks", "vocab_size", "text_hidden_size"):
            if getattr(self, name) < 1:
                raise CheckpointError(f"decoder config: {name} = {getattr(self, name)!r} must be at least 1")
        if self.hidden_size < 4 or self.hidden_size % 2 or self.hidden_size % self.num_heads:
            raise CheckpointError(
                f"decoder config: hidden_size = {self.hidden_size} must be even, at least 4, "
                f"and a multiple of num_attention_heads = {self.num_heads}"
            )
        if self.audio_channels not in (1, 2):
            raise CheckpointError(f"decoder config: audio_channels = {self.audio_channels} must be 1 or 2")
        if self.num_codebooks % self.audio_channels:
            raise CheckpointError(
                f"decoder config: num_codebooks = {self.num_codebooks} must be a multiple of the two channels"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def special_token(self) -> int:
        """The id that stands where the delay pattern has no code; it can never be sampled."""
        return self.vocab_size

    @property
    def num_positions(self) -> int:
        """Positions the decoder is ready for; the longest window takes 1,503 of them."""
        return max(self.max_positions, 4096)

    @property
    def has_text_projection(self) -> bool:
        """transformers projects text only where the widths differ."""
        return self.text_hidden_size != self.hidden_size

    @property
    def delays(self) -> tuple[int, ...]:
        """Steps by which each codebook runs behind: [0, 1, 2, 3] mono, [0, 0, 1, 1, 2, 2, 3, 3] stereo."""
        return tuple(codebook // self.audio_channels for codebook in range(self.num_codebooks))


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """EnCodec's geometry; the names are transformers' own. What the decoder supports is checked by it."""

    sampling_rate: int
    audio_channels: int
    num_filters: int
    hidden_size: int
    codebook_size: int
    codebook_dim: int
    num_quantizers: int
    upsampling_ratios: tuple[int, ...]
    kernel_size: int
    last_kernel_size: int
    residual_kernel_size: int
    dilation_growth_rate: int
    num_residual_layers: int
    num_lstm_layers: int
    compress: int
    use_causal_conv: bool
    pad_mode: str
    trim_right_ratio: float
    norm_type: str
    use_conv_shortcut: bool
    normalize: bool

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.upsampling_ratios)

    @property
    def frame_rate(self) -> int:
        """Frames per second."""
        return math.ceil(self.sampling_rate / self.hop_length)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One MusicGen: text encoder, decoder and codec that fit each other.

    Attributes:
        conditioners: what it listens to: "text", and for some models "melody" or "style" before it.
        style: how it hears one, if it does.

    Raises:
        CheckpointError: decoder and codec do not fit.
    """

    decoder: DecoderConfig
    codec: CodecConfig
    text: TextEncoderConfig
    max_duration_s: float = MAX_DURATION_S
    conditioners: tuple[str, ...] = ("text",)
    style: StyleConfig | None = None

    def __post_init__(self) -> None:
        if self.codec.sampling_rate % self.codec.hop_length:
            raise CheckpointError(
                f"codec config: sampling_rate = {self.codec.sampling_rate} is not a whole number of frames of "
                f"{self.codec.hop_length} samples"
            )
        per_channel = self.decoder.num_codebooks // self.decoder.audio_channels
        if per_channel != self.codec.num_quantizers:
            raise CheckpointError(
                f"decoder config: num_codebooks = {self.decoder.num_codebooks} makes {per_channel} per channel, "
                f"but the codec has {self.codec.num_quantizers} (from target_bandwidths)"
            )
        if self.decoder.vocab_size != self.codec.codebook_size:
            raise CheckpointError(
                f"decoder config: vocab_size = {self.decoder.vocab_size} differs from the codec's "
                f"codebook_size = {self.codec.codebook_size}"
            )

        if self.max_frames + max(self.decoder.delays) > self.decoder.num_positions:
            raise CheckpointError(
                f"codec config: {self.frame_rate} frames per second make {self.max_frames} frames in "
                f"{self.max_duration_s:g} s, more than the decoder's {self.decoder.num_positions} positions"
            )

    @classmethod
    def from_folder(cls, path: str | Path | CheckpointFiles) -> ModelConfig:
        """Read what a checkpoint's own files say, in transformers or audiocraft format.

        Raises:
            CheckpointError: naming the missing or broken file, or the unknown or unsupported value.
        """
        from models.checkpoint_files import CheckpointFiles, Format

        files = CheckpointFiles.of(path)
        if files.format is Format.AUDIOCRAFT:
            from models.audiocraft.config import read_audiocraft

            return read_audiocraft(files).config
        from models.config_file import read_model_config

        return read_model_config(files.folder)

    @property
    def channels(self) -> int:
        return self.decoder.audio_channels

    @property
    def takes_melody(self) -> bool:
        return "melody" in self.conditioners

    @property
    def longest_prefix(self) -> int:
        """Most positions that come before a row's codes: a melody or style and the longest text, or none."""
        if self.style is not None:
            return self.style.longest + self.text.max_tokens
        return CHROMA_FRAMES + self.text.max_tokens if self.takes_melody else 0

    @property
    def takes_style(self) -> bool:
        return "style" in self.conditioners

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.codec.sampling_rate

    @property
    def frame_rate(self) -> int:
        """Frames per second."""
        return self.codec.frame_rate

    @property
    def max_frames(self) -> int:
        return int(self.max_duration_s * self.frame_rate)
