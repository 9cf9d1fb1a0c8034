"""Whether a model can go on from audio is told from the names in its files, of either format, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from models.catalog import describe
from models.checkpoint import load_checkpoint
from models.checkpoint_files import WEIGHTS, CheckpointFiles
from models.encodec.encoder import EncodecEncoder, has_encoder
from models.encoder_presence import holds_encoder
from tests.audiocraft_files import export
from tests.factories import make_checkpoint

SHAPE: dict[str, Any] = {"hidden": 32, "layers": 1, "heads": 4, "ffn": 64, "text_hidden": 16, "ratios": (4, 2)}


@pytest.mark.parametrize("place", ["transformers", "audiocraft", "codec inside"])
def test_what_is_told_is_what_the_engine_finds(place: str, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "ours", **SHAPE)
    if place != "transformers":
        folder = export(folder, tmp_path / "theirs", codec_inside=place == "codec inside")
    checkpoint = load_checkpoint(folder)
    assert has_encoder(checkpoint.codec_state)
    assert describe(folder).goes_on_from_audio
    EncodecEncoder(checkpoint.config.codec, checkpoint.codec_state)


def test_a_model_that_only_decodes(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "ours", **SHAPE)
    tensors = load_file(folder / WEIGHTS)
    save_file({name: each for name, each in tensors.items() if ".encoder.layers." not in name}, folder / WEIGHTS)
    assert not holds_encoder(CheckpointFiles(folder))
    (folder / WEIGHTS).write_bytes(b"broken")
    assert not holds_encoder(CheckpointFiles(folder)), "that is said when it is loaded"
