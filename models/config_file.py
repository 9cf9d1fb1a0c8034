"""Reads transformers' ``config.json`` and refuses what would be served wrongly. No torch here.

A key that the file leaves out has transformers' default. A key that nobody here knows is refused: it may change what
the model computes. Keys that only matter in training, or for other kinds of models, are listed and skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from models.checkpoint_files import EXTRACTOR
from models.config import CHROMA_FRAMES, NUM_CHROMA, CodecConfig, DecoderConfig, ModelConfig, TextEncoderConfig
from models.errors import CheckpointError

Number = TypeVar("Number", int, float, bool, str)

# Every transformers configuration may carry these; none of them changes what a decoder or codec computes.
# fmt: off
_GENERIC = frozenset([
    "_commit_hash", "_name_or_path", "add_cross_attention", "architectures", "attn_implementation",
    "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "chunk_size_feed_forward",
    "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample", "dtype",
    "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty",
    "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "id2label", "initializer_factor",
    "is_decoder", "is_encoder_decoder", "label2id", "length_penalty", "max_length", "min_length",
    "model_type", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_attentions", "output_hidden_states", "output_scores", "pad_token_id", "prefix", "problem_type",
    "pruned_heads", "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate",
    "sep_token_id", "suppress_tokens", "task_specific_params", "temperature", "tf_legacy_loss",
    "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "top_k", "top_p", "torch_dtype",
    "torchscript", "transformers_version", "typical_p", "use_bfloat16", "use_cache",
])
# fmt: on
_TRAINING = frozenset(("activation_dropout", "attention_dropout", "classifier_dropout", "dropout", "layerdrop"))
_ENCODING = frozenset(("overlap",))  # of the pieces that chunk_length_s, which is refused, would cut clips into

_DECODER_REQUIRED: Mapping[str, object] = {
    "activation_function": "gelu",
    "scale_embedding": False,
    "cross_attention_hidden_size": None,
    "tie_word_embeddings": False,
}
_CONDITIONERS: Mapping[object, tuple[str, ...]] = {"musicgen": ("text",), "musicgen_melody": ("melody", "text")}
_CHROMA: Mapping[str, object] = {"num_chroma": NUM_CHROMA, "chroma_length": CHROMA_FRAMES}  # of all that are published
_EXTRACTOR: Mapping[str, object] = {"feature_size": NUM_CHROMA, "n_fft": 2**14, "hop_length": 2**12}
_CODEC_REQUIRED: Mapping[str, object] = {"chunk_length_s": None}


class Section:
    """One section of the file; remembers what was asked for, so that the rest can be refused.

    Args:
        file: for messages.

    Raises:
        CheckpointError: from every method, naming the section and the key.
    """

    def __init__(self, name: str, values: object, file: str = "config.json") -> None:
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{file} has no section {name!r}")
        self._name, self._file = name, file
        self._values: Mapping[str, Any] = values
        self._asked: set[str] = set()

    @property
    def values(self) -> dict[str, Any]:
        """All of it, as it stands in the file."""
        return dict(self._values)

    def number(self, key: str, default: Number) -> Number:
        """The value of that key, of the default's type; a whole number may stand for a float."""
        self._asked.add(key)
        value = self._values.get(key, default)
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(default):
            raise CheckpointError(
                f"{self._file}: {self._name}.{key} = {value!r} must be of type {type(default).__name__}"
            )
        return value

    def optional(self, key: str, default: int) -> int:
        """The same, where null means the default."""
        self._asked.add(key)
        return default if self._values.get(key) is None else self.number(key, default)

    def numbers(self, key: str, default: Iterable[Number]) -> tuple[Number, ...]:
        """A list of at least one number."""
        self._asked.add(key)
        wanted = tuple(default)
        value = self._values.get(key, wanted)
        if not isinstance(value, list | tuple) or not value:
            raise CheckpointError(f"{self._file}: {self._name}.{key} = {value!r} must be a list of numbers")
        return tuple(Section(self._name, {key: each}, self._file).number(key, wanted[0]) for each in value)

    def require(self, required: Mapping[str, object]) -> None:
        """The one value that is supported for each of these keys, which is also transformers' default."""
        for key, wanted in required.items():
            self._asked.add(key)
            if self._values.get(key, wanted) != wanted:
                raise CheckpointError(
                    f"{self._file}: {self._name}.{key} = {self._values[key]!r} is not supported, it must be {wanted!r}"
                )

    def refuse_unknown(self, skipped: frozenset[str]) -> None:
        """Called last: whatever was neither asked for nor is known to be harmless."""
        unknown = sorted(set(self._values) - self._asked - skipped)
        if unknown:
            raise CheckpointError(
                f"{self._file}: {self._name}.{unknown[0]} = {self._values[unknown[0]]!r} is not a known setting: "
                "it may change what the model computes"
            )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: naming the file that is missing, unreadable or broken.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: a checkpoint in transformers format has it") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} can not be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} must hold a JSON object")
    return content


def read_model_config(folder: Path) -> ModelConfig:
    """See `ModelConfig.from_folder`."""
    content = read_json(folder / "config.json")
    kind = content.get("model_type")
    if kind not in _CONDITIONERS:
        known = " or ".join(repr(each) for each in _CONDITIONERS)
        raise CheckpointError(f"config.json: model_type = {kind!r} is not supported, it must be {known}")
    text = _text(Section("text_encoder", content.get("text_encoder")))
    decoder = Section("decoder", content.get("decoder"))
    decoder.require({"model_type": f"{kind}_decoder"})
    if "melody" in _CONDITIONERS[kind]:
        Section("chroma", {name: content.get(name, size) for name, size in _CHROMA.items()}).require(_CHROMA)
    config = ModelConfig(
        decoder=_decoder(decoder, text.hidden_size, cross_attention="melody" not in _CONDITIONERS[kind]),
        codec=_codec(Section("audio_encoder", content.get("audio_encoder"))),
        text=text,
        conditioners=_CONDITIONERS[kind],
    )
    extractor = folder / EXTRACTOR
    if config.takes_melody and extractor.is_file():
        wanted = {**_EXTRACTOR, "sampling_rate": config.sample_rate}
        Section("melody", read_json(extractor), str(extractor)).require(wanted)
    return config


def read_codec_config(folder: Path) -> CodecConfig:
    """Of a codec's own folder, as transformers saves an EnCodec.

    Raises:
        CheckpointError: naming the file or value.
    """
    file = folder / "config.json"
    return _codec(Section("codec", read_json(file), str(file)))


def read_text_config(folder: Path) -> TextEncoderConfig:
    """Of a text encoder's own folder, as transformers saves a T5.

    Raises:
        CheckpointError: naming the file or value.
    """
    file = folder / "config.json"
    return _text(Section("text encoder", read_json(file), str(file)))


def _text(section: Section) -> TextEncoderConfig:
    section.require({"model_type": "t5"})
    return TextEncoderConfig(hidden_size=section.number("d_model", 512), settings=section.values)


def _decoder(section: Section, text_hidden_size: int, cross_attention: bool) -> DecoderConfig:
    section.require(_DECODER_REQUIRED)
    config = DecoderConfig(
        hidden_size=section.number("hidden_size", 1024),
        num_layers=section.number("num_hidden_layers", 24),
        num_heads=section.number("num_attention_heads", 16),
        ffn_dim=section.number("ffn_dim", 4096),
        num_codebooks=section.number("num_codebooks", 4),
        vocab_size=section.number("vocab_size", 2048),
        audio_channels=section.number("audio_channels", 1),
        text_hidden_size=text_hidden_size,
        max_positions=section.number("max_position_embeddings", 2048),
        cross_attention=cross_attention,
    )
    for key in ("pad_token_id", "bos_token_id"):
        token = section.optional(key, config.special_token)
        if token != config.special_token:
            raise CheckpointError(f"config.json: decoder.{key} = {token} must be vocab_size = {config.special_token}")
    section.refuse_unknown(_GENERIC | _TRAINING)
    return config


def _codec(section: Section) -> CodecConfig:
    section.require({"model_type": "encodec", **_CODEC_REQUIRED})
    hidden_size = section.number("hidden_size", 128)
    ratios = section.numbers("upsampling_ratios", (8, 5, 4, 2))
    bandwidths = section.numbers("target_bandwidths", (1.5, 3.0, 6.0, 12.0, 24.0))  # kbit/s
    sampling_rate = section.number("sampling_rate", 24_000)
    codebook_size = section.number("codebook_size", 1024)
    config = CodecConfig(
        sampling_rate=sampling_rate,
        audio_channels=section.number("audio_channels", 1),
        num_filters=section.number("num_filters", 32),
        hidden_size=hidden_size,
        codebook_size=codebook_size,
        codebook_dim=section.optional("codebook_dim", hidden_size),
        num_quantizers=_num_quantizers(bandwidths[-1], sampling_rate, ratios, codebook_size),
        upsampling_ratios=ratios,
        kernel_size=section.number("kernel_size", 7),
        last_kernel_size=section.number("last_kernel_size", 7),
        residual_kernel_size=section.number("residual_kernel_size", 3),
        dilation_growth_rate=section.number("dilation_growth_rate", 2),
        num_residual_layers=section.number("num_residual_layers", 1),
        num_lstm_layers=section.number("num_lstm_layers", 2),
        compress=section.number("compress", 2),
        use_causal_conv=section.number("use_causal_conv", True),
        pad_mode=section.number("pad_mode", "reflect"),
        trim_right_ratio=section.number("trim_right_ratio", 1.0),
        norm_type=section.number("norm_type", "weight_norm"),
        use_conv_shortcut=section.number("use_conv_shortcut", True),
        normalize=section.number("normalize", False),
    )
    section.refuse_unknown(_GENERIC | _TRAINING | _ENCODING)
    return config


def _num_quantizers(bandwidth: float, sampling_rate: int, ratios: tuple[int, ...], codebook_size: int) -> int:
    """How transformers derives it: codebooks whose bits fit into the widest bandwidth, in kbit/s."""
    if min(ratios) < 1 or sampling_rate < 1 or codebook_size < 2:
        raise CheckpointError(
            f"config.json: audio_encoder.upsampling_ratios = {list(ratios)}, sampling_rate = {sampling_rate} and "
            f"codebook_size = {codebook_size} must be positive, the last at least 2"
        )
    hop = 1
    for ratio in ratios:
        hop *= ratio
    frame_rate = -(-sampling_rate // hop)
    bits = (codebook_size - 1).bit_length()
    return int(1000 * bandwidth // (frame_rate * bits))
