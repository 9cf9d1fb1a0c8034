"""What a model is and how an engine runs it: frozen numbers, checked once. No torch here.

The names are ours; ``models.config_file`` reads them from a transformers ``config.json``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import CheckpointError, InvalidRequestError

MAX_DURATION_S = 30.0
"""MusicGen was trained on 30 s: one window."""

DTYPES = ("float32", "bfloat16")
WEIGHT_FORMATS = ("fp32", "bf16", "int8", "int4")


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
        """Positions the decoder is ready for; the longest track takes 1,503 of them."""
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

    Raises:
        CheckpointError: decoder and codec do not fit.
    """

    decoder: DecoderConfig
    codec: CodecConfig
    text: TextEncoderConfig
    max_duration_s: float = MAX_DURATION_S

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
    def from_folder(cls, path: str | Path) -> ModelConfig:
        """Read ``config.json`` of a transformers folder.

        Raises:
            CheckpointError: naming the missing or broken file, or the unknown or unsupported value.
        """
        from models.config_file import read_model_config

        return read_model_config(Path(path))

    @property
    def channels(self) -> int:
        return self.decoder.audio_channels

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


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How one engine runs. Unknown names are refused by Python itself, values here.

    Attributes:
        device: "cpu", "cuda" or "cuda:N".
        dtype: the decoder computes in, "float32" or "bfloat16".
        weights: format the decoder's weights are kept in: "fp32", "bf16", "int8" or "int4"; None follows ``dtype``.
            int8 and int4 are for CPUs. Activations are then bfloat16, sums float32, keys and values bfloat16.
        codec_dtype: of the codec.
        max_rows: rows in one step; a guided request takes 2.
        kv_positions: KV positions reserved for all rows; None is enough for ``max_rows`` of the longest track.
        max_queue: requests that may wait.
        first_chunk_s: seconds of audio in the first chunk.
        chunk_growth: each chunk is this many times longer than the one before ...
        max_chunk_s: ... up to this many seconds.
        prebuffer_s: seconds of audio that listeners' players are taken to wait for before they start.
        pause_rows: when not all rows can be in the step in time, let those far ahead of their listeners pause.
        return_codes: put the codes on the last chunk.
        num_threads: CPU threads; None leaves torch's own choice.
        batch_invariant: where torch computes the step on a CPU in float32, pad its rows so that a track's tokens do not
            depend, to the last bit, on who shares the step. Our own kernel has that property in every format anyway.

    Raises:
        InvalidRequestError: naming the value that is out of range.
    """

    device: str = "cpu"
    dtype: str = "float32"
    weights: str | None = None
    codec_dtype: str = "float32"
    max_rows: int = 16
    kv_positions: int | None = None
    max_queue: int = 64
    first_chunk_s: float = 0.2
    chunk_growth: float = 2.0
    max_chunk_s: float = 1.0
    prebuffer_s: float = 0.5
    pause_rows: bool = True
    return_codes: bool = False
    num_threads: int | None = None
    batch_invariant: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", str(self.device)):
            raise _refusal("device", self.device, "'cpu', 'cuda' or 'cuda:N'")
        for name in ("dtype", "codec_dtype"):
            if getattr(self, name) not in DTYPES:
                raise _refusal(name, getattr(self, name), f"one of {', '.join(DTYPES)}")
        if self.weights is not None:
            self._check_weights()
        self._check_integer("max_rows", at_least=1)
        self._check_integer("max_queue", at_least=0)
        for name in ("kv_positions", "num_threads"):
            if getattr(self, name) is not None:
                self._check_integer(name, at_least=1)
        self._check_number("first_chunk_s", 0.0, exclusive=True)
        self._check_number("max_chunk_s", self.first_chunk_s)
        self._check_number("chunk_growth", 1.0)
        self._check_number("prebuffer_s", 0.0)
        for name in ("pause_rows", "return_codes", "batch_invariant"):
            if getattr(self, name) not in (True, False):
                raise _refusal(name, getattr(self, name), "true or false")

    @property
    def weight_format(self) -> str:
        """One of ``WEIGHT_FORMATS``."""
        return self.weights or ("fp32" if self.dtype == "float32" else "bf16")

    def kv_positions_for(self, model: ModelConfig) -> int:
        """KV positions to reserve: what is configured, or every row at the longest track."""
        return self.kv_positions or self.max_rows * (model.max_frames + 4)

    def _check_weights(self) -> None:
        if self.weights not in WEIGHT_FORMATS:
            raise _refusal("weights", self.weights, f"one of {', '.join(WEIGHT_FORMATS)}")
        if self.device != "cpu" and self.weights in ("int8", "int4"):
            raise _refusal("weights", self.weights, "fp32 or bf16 on a GPU")

    def _check_integer(self, name: str, at_least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise _refusal(name, value, f"a whole number of at least {at_least}")

    def _check_number(self, name: str, lowest: float, exclusive: bool = False) -> None:
        value = getattr(self, name)
        wanted = f"a number {'above' if exclusive else 'of at least'} {lowest:g}"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _refusal(name, value, wanted)
        if value < lowest or (exclusive and value == lowest):
            raise _refusal(name, value, wanted)


def _refusal(name: str, value: object, wanted: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name} must be {wanted}, got {value!r}", param=name)
