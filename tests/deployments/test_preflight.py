"""A checkpoint that cannot be served is named, with the model and what to do, before anything is started."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.platform import PlatformError, load_config
from models.errors import CheckpointError
from tests.deployments.conftest import ConfigWriter


@pytest.fixture
def copy_of_checkpoint(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def test_a_good_checkpoint_passes(write_config: ConfigWriter) -> None:
    assert load_config(write_config()).applications[0].name == "tutti"


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def leave_a_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


def leave_nothing(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def break_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("[]")


def miss_a_shard(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (remove_weights, "model.safetensors is missing"),
        (cut_weights, "copy it again"),
        (leave_a_pointer, "not a safetensors file"),
        (leave_nothing, "not a safetensors file"),
        (break_index, "not a safetensors index"),
        (miss_a_shard, "model-00001-of-00002.safetensors is missing"),
        (remove_config, "config.json"),
    ],
)
def test_a_damaged_checkpoint_is_named(
    write_config: ConfigWriter, copy_of_checkpoint: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    damage(copy_of_checkpoint)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_config(write_config(checkpoint=copy_of_checkpoint))
    assert "'tiny'" in str(caught.value)
    assert str(copy_of_checkpoint) in str(caught.value)
    assert "enabled: false" in str(caught.value)


def test_a_missing_folder_is_named(write_config: ConfigWriter, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load_config(write_config(checkpoint=tmp_path / "nowhere"))


def test_a_grace_shorter_than_the_longest_stream_is_refused(write_config: ConfigWriter) -> None:
    path = write_config()
    path.write_text(path.read_text().replace("graceful_shutdown_timeout_s: 180", "graceful_shutdown_timeout_s: 10"))
    with pytest.raises(CheckpointError, match="graceful_shutdown_timeout_s is 10 s"):
        load_config(path)


TYPO = "{m: {enabled: false, engine: {max_rowz: 16}}}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "not YAML"),
        ("applications: 3", "applications"),
        ("", "valid dictionary"),
        ("http_options: {port: many}\napplications: []", "http_options.port"),
        ("applications: []", "applications: there is none"),
        (f"applications: [{{import_path: a:b, args: {{models: {TYPO}}}}}]", "engine has no option 'max_rowz'"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(PlatformError, match=complaint) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="No such file"):
        load_config(tmp_path / "absent.yaml")
