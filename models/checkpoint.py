"""Loads a checkpoint of either format and accounts for every tensor in it, under one naming: transformers'.

    transformers   config.json   model.safetensors (or model.safetensors.index.json and its shards)   tokenizer.json …
    audiocraft     state_dict.bin   compression_state_dict.bin   and the text encoder's folder, mostly the codec's too,
                   and of a style model MERT's

The decoder's tensors and the text projection are checked here; those of the codec and of the text encoder by the
parts that use them, when they are built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from models.audiocraft.weights import look_at_audiocraft
from models.checkpoint_files import CheckpointFiles, Format
from models.checkpoint_tensors import SeenTensor, StoredTensors, check_tensors, look_into, refuse_left_over
from models.config import ModelConfig
from models.musicgen.weights import expected_shapes, melody_projection_shapes, projection_shapes

PARTS = ("decoder", "audio_encoder", "text_encoder", "enc_to_dec_proj", "audio_enc_to_dec_proj")

# transformers computes these itself; older versions wrote them to the file all the same.
TOLERATED_DECODER = frozenset(("model.decoder.embed_positions.weights",))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors by their transformers names, in the file's own dtypes.

    Attributes:
        folder: where it lies.
        decoder_state: names below ``decoder.``.
        codec_state: names below ``audio_encoder.``.
        text_state: names below ``text_encoder.``.
        enc_to_dec_proj: ``weight`` [D, D_text] and ``bias`` [D], or None where the widths are equal.
        tokenizer: folder of the tokenizer, if it is not the same.
        audio_enc_to_dec_proj: ``weight`` [D, 12] and ``bias`` [D] of a melody model, else None.
        style_state: of a style model, by audiocraft's names below ``self_wav.``.
        style_encoder_state: of its MERT.
    """

    folder: Path
    config: ModelConfig
    decoder_state: Mapping[str, Tensor]
    codec_state: Mapping[str, Tensor]
    text_state: Mapping[str, Tensor]
    enc_to_dec_proj: Mapping[str, Tensor] | None
    tokenizer: Path | None = None
    audio_enc_to_dec_proj: Mapping[str, Tensor] | None = None
    style_state: Mapping[str, Tensor] = field(default_factory=dict)
    style_encoder_state: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def tokenizer_folder(self) -> Path:
        return self.tokenizer or self.folder


def load_checkpoint(path: str | Path | CheckpointFiles) -> Checkpoint:
    """Read the configuration and look at every tensor; their numbers are read by the parts that use them.

    Raises:
        CheckpointError: naming the file that is missing or broken, the unsupported config value, the conditioning that
            can not be run, or the tensor that is missing, left over, misshapen or of a type that can not be served.
    """
    files = CheckpointFiles.of(path)
    tokenizer = None
    if files.format is Format.AUDIOCRAFT:
        config, parts, tokenizer = look_at_audiocraft(files)
    else:
        config = ModelConfig.from_folder(files)
        parts = _split(look_into(files.folder))
    decoder = {name: each for name, each in parts["decoder"].items() if name not in TOLERATED_DECODER}
    check_tensors("decoder", _seen(decoder), expected_shapes(config.decoder))
    check_tensors("enc_to_dec_proj", _seen(parts["enc_to_dec_proj"]), projection_shapes(config.decoder))
    check_tensors("audio_enc_to_dec_proj", _seen(parts["audio_enc_to_dec_proj"]), melody_projection_shapes(config))
    return Checkpoint(
        folder=files.folder,
        config=config,
        decoder_state=StoredTensors(decoder),
        codec_state=StoredTensors(parts["audio_encoder"]),
        text_state=StoredTensors(parts["text_encoder"]),
        enc_to_dec_proj=StoredTensors(parts["enc_to_dec_proj"]) or None,
        tokenizer=tokenizer,
        audio_enc_to_dec_proj=StoredTensors(parts["audio_enc_to_dec_proj"]) or None,
        style_state=StoredTensors(parts.get("style", {})),
        style_encoder_state=StoredTensors(parts.get("style_encoder", {})),
    )


def _seen(part: Mapping[str, SeenTensor]) -> dict[str, Tensor]:
    return {name: each.tensor for name, each in part.items()}


def _split(tensors: Mapping[str, SeenTensor]) -> dict[str, dict[str, SeenTensor]]:
    parts: dict[str, dict[str, SeenTensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    refuse_left_over(f"{part}.{name}" for part in parts.keys() - set(PARTS) for name in parts[part])
    return parts
