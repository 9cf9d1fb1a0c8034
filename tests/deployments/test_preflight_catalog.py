"""The Serve config may name a model of the catalog, of either format; what is wrong with it is said at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from api.cli import main
from deployments.platform import load_config
from deployments.preflight import checkpoint_files
from deployments.settings import ModelArgs
from models.catalog_file import CATALOG_VARIABLE, Catalog
from models.errors import CheckpointError
from models.variants import VARIANTS
from tests.audiocraft_files import CODEC, STYLE_ENCODER, TEXT_ENCODER, export
from tests.deployments.conftest import ConfigWriter
from tests.models.test_variants import write


@pytest.fixture
def exported(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint in audiocraft's format, in the catalog as "waltz"; the codec lies elsewhere."""
    monkeypatch.setenv(CATALOG_VARIABLE, str(tmp_path / "catalog.json"))
    folder = export(checkpoint, tmp_path / "exported")
    shutil.move(folder / CODEC, tmp_path / "my codec")
    assert main(["models", "add", str(folder), "--name", "waltz", "--codec", str(tmp_path / "my codec")]) == 0
    return folder


def test_a_name_of_the_catalog_is_served(exported: Path, write_config: ConfigWriter, tmp_path: Path) -> None:
    load_config(write_config(checkpoint=Path("waltz")))
    files = checkpoint_files(ModelArgs(checkpoint="waltz"))
    assert (files.folder, files.codec) == (exported, tmp_path / "my codec")


def test_the_catalog_is_read_once(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, load = [], Catalog.load

    def counted(file: Path | None = None) -> Catalog:
        read.append(file)
        return load(file)

    monkeypatch.setattr(Catalog, "load", counted)
    assert checkpoint_files(ModelArgs(checkpoint="waltz")).folder == exported
    assert len(read) == 1


@pytest.mark.parametrize("part", ["../my codec/model.safetensors", f"{TEXT_ENCODER}/model.safetensors"])
def test_a_part_that_was_cut_is_named(part: str, exported: Path, write_config: ConfigWriter) -> None:
    weights = exported / part
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"its header says \d+: copy it again"):
        load_config(write_config(checkpoint=Path("waltz")))


def test_a_name_that_nobody_added_is_said(exported: Path, write_config: ConfigWriter) -> None:
    with pytest.raises(CheckpointError, match="no model 'polka': give 'tiny' or 'tiny-melody', a name of"):
        load_config(write_config(checkpoint=Path("polka")))


def test_what_a_model_needs_and_is_not_there_is_said(
    write_config: ConfigWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    style = next(variant for variant in VARIANTS if variant.name == "style")
    write(tmp_path, style, style.formats[0])
    shutil.rmtree(tmp_path / STYLE_ENCODER)
    with pytest.raises(CheckpointError, match="only names its style encoder, 'm-a-p/MERT-v1-95M'"):
        load_config(write_config(checkpoint=tmp_path))
