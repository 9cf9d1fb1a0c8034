"""What an audiocraft checkpoint says of itself; what would be served wrongly is refused. No torch here.

``transformer_lm`` has the decoder's dimensions, ``conditioners`` and ``fuser`` say what the model listens to and how.
As in `models.config_file`, a setting of the network that nobody here knows is refused. Facts from audiocraft 1.3.0
(models/builders.py, models/loaders.py) and its published configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.audiocraft.archive import read_values
from models.audiocraft.codec import read_codec
from models.audiocraft.settings import Settings
from models.audiocraft.style import read_style
from models.checkpoint_files import COMPRESSION_MODEL, LANGUAGE_MODEL, CheckpointFiles
from models.config import NUM_CHROMA, CodecConfig, DecoderConfig, ModelConfig
from models.config_file import read_codec_config, read_text_config
from models.errors import CheckpointError
from models.references import CODEC, STYLE_ENCODER, TEXT_ENCODER, Reference, find
from models.style_config import MERT

TEXT = "description"
"""audiocraft's name for the text; "self_wav" is a melody or a style."""

_WAV_CONDITIONERS = {"chroma_stem": "melody", "style": "style"}
_STYLE_REFERENCE = Reference(STYLE_ENCODER, MERT, "--style-encoder")

# What a melody must be heard as; audiocraft itself repeats a short one when it loads a model, whatever the file says.
_CHROMA: Mapping[str, object] = {"n_chroma": NUM_CHROMA, "radix2_exp": 14, "argmax": True}
_CHROMA_SKIPPED = frozenset(("match_len_on_eval", "eval_wavs", "n_eval_wavs", "cache_path"))

# What the transformer must be, and what of it only matters in training or for speed.
_TRANSFORMER: Mapping[str, object] = {
    "norm_first": True,
    "causal": True,
    "bias_ff": False,
    "bias_attn": False,
    "bias_proj": False,
    "activation": "gelu",
    "positional_embedding": "sin",
    "positional_scale": 1.0,
    "max_period": 10_000,
    "norm": "layer_norm",
    "past_context": None,
    "layer_scale": None,
    "qk_layer_norm": False,
    "qk_layer_norm_cross": False,
    "kv_repeat": 1,
}
# fmt: off
_TRAINING = frozenset([
    "dropout", "emb_lr", "custom", "memory_efficient", "attention_as_float32", "checkpointing", "weight_init",
    "depthwise_init", "zero_bias_init", "attention_dropout", "two_step_cfg", "cross_attention", "q_modeling", "xpos",
    "lr", "weight_decay",
])
# fmt: on


@dataclass(frozen=True, slots=True)
class AudiocraftModel:
    """
    Attributes:
        codec: folder of the codec; None: its weights are in ``compression_state_dict.bin`` itself.
        text_encoder: folder of the text encoder and its tokenizer.
        style_encoder: folder of what hears a style; None: the model takes none.
    """

    config: ModelConfig
    codec: Path | None
    text_encoder: Path
    style_encoder: Path | None = None


def read_audiocraft(files: CheckpointFiles) -> AudiocraftModel:
    """The configuration of a checkpoint in audiocraft format, and where its parts are.

    Raises:
        CheckpointError: naming the file, or the setting that is not supported; a codec or text encoder that is nowhere.
    """
    settings = Settings.of(files.folder / LANGUAGE_MODEL)
    text_folder = find(_text_reference(settings), files.folder, files.text_encoder)
    codec_folder, codec = _codec(files)
    text = read_text_config(text_folder)
    conditioners = _conditioners(settings)
    decoder = _decoder(settings, text.hidden_size, cross_attention=len(conditioners) == 1)
    style_folder, style = None, None
    if "style" in conditioners:
        style_folder = find(_STYLE_REFERENCE, files.folder, files.style_encoder)
        style = read_style(settings, codec.sampling_rate, style_folder)
    config = ModelConfig(decoder, codec, text, conditioners=conditioners, style=style)
    if config.takes_melody:
        _check_chroma(settings, config)
    return AudiocraftModel(config, codec_folder, text_folder, style_folder)


def references(folder: Path) -> tuple[Reference, ...]:
    """What the files in this folder name and do not hold.

    Raises:
        CheckpointError: naming the file or setting.
    """
    settings = Settings.of(folder / LANGUAGE_MODEL)
    named = [_text_reference(settings)]
    pretrained = read_values(folder / COMPRESSION_MODEL).get("pretrained")
    if pretrained is not None:
        named.append(_codec_reference(folder, pretrained))
    if settings.get("conditioners.self_wav.model") == "style":
        named.append(_STYLE_REFERENCE)
    return tuple(named)


def _decoder(settings: Settings, text_hidden_size: int, cross_attention: bool) -> DecoderConfig:
    settings.require("lm_model", "transformer_lm")
    section = settings.section("transformer_lm")
    section.require(_TRANSFORMER)
    width = section.number("dim", 0)
    stereo = bool(settings.get("interleave_stereo_codebooks.use", False))
    config = DecoderConfig(
        hidden_size=width,
        num_layers=section.number("num_layers", 0),
        num_heads=section.number("num_heads", 0),
        ffn_dim=int(section.number("hidden_scale", 4.0) * width),
        num_codebooks=section.number("n_q", 0),
        vocab_size=section.number("card", 0),
        audio_channels=2 if stereo else 1,
        text_hidden_size=text_hidden_size,
        cross_attention=cross_attention,
    )
    section.refuse_unknown(_TRAINING)
    if not config.has_text_projection:
        raise CheckpointError(
            f"{settings.file}: transformer_lm.dim = {width} is the text encoder's width; audiocraft projects the text "
            "all the same, which is not supported"
        )
    _check_pattern(settings, config)
    return config


def _check_pattern(settings: Settings, config: DecoderConfig) -> None:
    settings.require("interleave_stereo_codebooks.per_timestep", False)
    settings.require("channels", config.audio_channels)
    settings.require("codebooks_pattern.modeling", "delay")
    settings.require("codebooks_pattern.delay.delays", list(config.delays))
    for name in ("flatten_first", "empty_initial"):
        settings.require(f"codebooks_pattern.delay.{name}", 0)


def _conditioners(settings: Settings) -> tuple[str, ...]:
    """What the model listens to, in the order in which it is prepended; text alone is attended to."""
    wanted = [name for name in settings.section("conditioners").values if name != "args"]
    for method in ("sum", "input_interpolate"):
        settings.require(f"fuser.{method}", [])
    settings.require("fuser.cross_attention_pos_emb", False)
    if wanted == [TEXT]:
        settings.require("fuser.cross", [TEXT])
        settings.require("fuser.prepend", [])
        return ("text",)
    kind = settings.get("conditioners.self_wav.model")
    if sorted(wanted) != [TEXT, "self_wav"] or kind not in _WAV_CONDITIONERS:
        names = ", ".join(f"{name}: {settings.get(f'conditioners.{name}.model')}" for name in wanted)
        raise CheckpointError(f"{settings.file}: no MusicGen has the conditioners {names}")
    settings.require("fuser.cross", [])
    settings.require("fuser.prepend", ["self_wav", TEXT])
    return (_WAV_CONDITIONERS[kind], "text")


def _check_chroma(settings: Settings, config: ModelConfig) -> None:
    section = settings.section("conditioners.self_wav.chroma_stem")
    section.require({**_CHROMA, "sample_rate": config.sample_rate})
    section.refuse_unknown(_CHROMA_SKIPPED)


def _text_reference(settings: Settings) -> Reference:
    settings.require(f"conditioners.{TEXT}.model", "t5")
    section = settings.section(f"conditioners.{TEXT}.t5")
    section.require({"finetune": False, "normalize_text": False})
    name = section.number("name", "")
    section.refuse_unknown(frozenset(("word_dropout", "autocast_dtype")))
    if not name:
        raise CheckpointError(f"{settings.file}: conditioners.{TEXT}.t5.name is missing")
    return Reference(TEXT_ENCODER, name, "--text-encoder")


def _codec(files: CheckpointFiles) -> tuple[Path | None, CodecConfig]:
    """The codec's folder, if it has one, and what it is."""
    file = files.folder / COMPRESSION_MODEL
    if files.codec is None:
        pretrained = read_values(file).get("pretrained")
        if pretrained is None:
            return None, read_codec(Settings.of(file))
        reference = _codec_reference(files.folder, pretrained)
    else:
        reference = Reference(CODEC, str(files.codec), "--codec")
    folder = find(reference, files.folder, files.codec)
    return folder, read_codec_config(folder)


def _codec_reference(folder: Path, pretrained: object) -> Reference:
    if not isinstance(pretrained, str):
        raise CheckpointError(f"{folder / COMPRESSION_MODEL}: pretrained = {pretrained!r} must be a model's name")
    return Reference(CODEC, pretrained, "--codec")
