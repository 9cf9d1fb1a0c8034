"""Whether a checkpoint can encode audio: from the names in its files. No torch here, and no weight is read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from models.audiocraft.archive import read_values
from models.checkpoint_files import COMPRESSION_MODEL, INDEX, WEIGHTS, CheckpointFiles, Format, parts_of

# Of a whole model, of a codec alone, of a codec in audiocraft's format.
_ENCODER = ("audio_encoder.encoder.layers.", "encoder.layers.", "encoder.model.")


def holds_encoder(files: CheckpointFiles) -> bool:
    """Whether there are an encoder's weights, as far as the files can be read: what is broken in them is said when
    they are loaded."""
    parts = [part for part in parts_of(files) if part[1] is not Format.STYLE_ENCODER]  # MERT has such names too
    return any(name.startswith(_ENCODER) for part in parts for name in _names(*part))


def _names(folder: Path, kind: Format) -> Iterable[str]:
    if kind is Format.AUDIOCRAFT:  # it has tensors of the codec unless it names one
        return list(read_values(folder / COMPRESSION_MODEL).get("best_state") or ())
    try:
        if (folder / WEIGHTS).is_file():
            with safe_open(folder / WEIGHTS, framework="numpy") as stored:
                return list(stored.keys())
        return list(json.loads((folder / INDEX).read_text())["weight_map"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return ()
