"""Whether a checkpoint can encode audio: from the names in its files. No torch here, and no weight is read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from models.checkpoint_files import INDEX, WEIGHTS, CheckpointFiles, Format, parts_of

_ENCODER = ("audio_encoder.encoder.layers.", "encoder.layers.")  # of a whole model, of a codec alone


def holds_encoder(files: CheckpointFiles) -> bool:
    """Whether there are an encoder's weights, as far as the files can be read: what is broken in them is said when
    they are loaded."""
    folders = [folder for folder, kind in parts_of(files) if kind is Format.TRANSFORMERS]
    return any(name.startswith(_ENCODER) for folder in folders for name in _names(folder))


def _names(folder: Path) -> Iterable[str]:
    try:
        if (folder / WEIGHTS).is_file():
            with safe_open(folder / WEIGHTS, framework="numpy") as stored:
                return list(stored.keys())
        return list(json.loads((folder / INDEX).read_text())["weight_map"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return ()
