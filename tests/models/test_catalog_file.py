"""The catalog keeps what a model's files were, finds what has changed, and can be carried elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.catalog import describe, licence_of, locate
from models.catalog_file import CATALOG_VARIABLE, Catalog, Entry, FileRecord, check_name
from models.checkpoint import load_checkpoint
from models.checkpoint_files import CheckpointFiles
from models.config import ModelConfig
from models.errors import CheckpointError, InvalidRequestError, ModelNotFoundError
from tests.audiocraft_files import CODEC, TEXT_ENCODER, export
from tests.factories import make_checkpoint

SHAPE: dict[str, Any] = {"hidden": 32, "layers": 1, "heads": 4, "ffn": 64, "text_hidden": 16, "ratios": (4, 2)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("made"), **SHAPE)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A checkpoint in the catalog's own folder."""
    return Path(shutil.copytree(made, tmp_path / "models" / "waltz"))


@pytest.fixture
def catalog(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """With that checkpoint as "waltz"."""
    monkeypatch.setenv(CATALOG_VARIABLE, str(tmp_path / "models" / "catalog.json"))
    add(Catalog.load(), "waltz", CheckpointFiles(folder))
    return Catalog.load()


def add(catalog: Catalog, name: str, files: CheckpointFiles) -> Catalog:
    codec, text = (None if each is None else catalog.path_to(each) for each in (files.codec, files.text_encoder))
    path, records = catalog.path_to(files.folder), catalog.record(files)
    entry = Entry(path, str(files.format), "CC0-1.0", records, codec=codec, text_encoder=text, added_at="2026-11-21")
    return catalog.put(name, entry)


def test_what_is_saved_is_loaded(catalog: Catalog, folder: Path) -> None:
    entry = catalog.entries["waltz"]
    assert entry.path == "waltz"
    assert set(entry.files) == {f"waltz/{file.name}" for file in folder.iterdir()}
    assert entry.size == sum(file.stat().st_size for file in folder.iterdir())
    assert locate("waltz") == CheckpointFiles(folder)
    assert describe(locate("waltz"), "waltz").licence == "CC0-1.0"
    assert not list(catalog.file.parent.glob("*.partial"))


def test_a_name_goes_before_a_folder(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waltz").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate("waltz").folder == tmp_path / "models" / "waltz"
    with pytest.raises(ModelNotFoundError, match="waltz is no checkpoint"):
        locate(Path("waltz"))


def test_no_file_is_an_empty_catalog(tmp_path: Path) -> None:
    assert Catalog.load(tmp_path / "none.json").entries == {}


def test_states_without_reading(catalog: Catalog, folder: Path) -> None:
    assert catalog.state("waltz") == "recorded"
    weights = folder / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    assert catalog.state("waltz") == "touched"
    weights.unlink()
    assert catalog.state("waltz") == "missing"


def test_a_changed_byte_is_found(catalog: Catalog, folder: Path) -> None:
    read: list[int] = []
    assert catalog.verify("waltz", read.append) == catalog.entries["waltz"].files
    assert sum(read) == catalog.entries["waltz"].size
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not what it was when 'waltz' was added: sha256"):
        catalog.verify("waltz")
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing; it was there when 'waltz'"):
        catalog.verify("waltz")


def test_a_copy_elsewhere_is_the_same(catalog: Catalog, tmp_path: Path) -> None:
    """Times of a copy are its own: that is said, and reading the files shows that nothing changed."""
    shutil.copytree(tmp_path / "models", tmp_path / "elsewhere", copy_function=shutil.copyfile)
    moved = Catalog.load(tmp_path / "elsewhere" / "catalog.json")
    assert moved.files_of("waltz").folder == tmp_path / "elsewhere" / "waltz"
    assert moved.state("waltz") == "touched"
    fresh = moved.verify("waltz")
    assert {record.sha256 for record in fresh.values()} == {
        record.sha256 for record in catalog.entries["waltz"].files.values()
    }


def test_parts_that_lie_elsewhere_belong_to_it(made: Path, catalog: Catalog, tmp_path: Path) -> None:
    exported = export(made, tmp_path / "outside")
    codec, text = (Path(shutil.move(exported / name, tmp_path / f"my {name}")) for name in (CODEC, TEXT_ENCODER))
    add(catalog, "old", CheckpointFiles(exported, codec, text))
    files = locate("old")
    assert files == CheckpointFiles(exported, codec, text)
    assert load_checkpoint(files).tokenizer_folder == text
    recorded = Catalog.load().entries["old"].files
    assert {str(codec / "model.safetensors"), str(text / "tokenizer.json"), str(exported / "state_dict.bin")} <= set(
        recorded
    )


def test_a_licence_is_the_cards_before_the_catalogs(catalog: Catalog, folder: Path) -> None:
    config = ModelConfig.from_folder(folder)
    assert licence_of(CheckpointFiles(folder), config) == "CC0-1.0"
    (folder / "tutti.json").write_text('{"licence": "MIT"}')
    assert licence_of(CheckpointFiles(folder), config) == "MIT"


def test_a_model_whose_folder_is_gone_is_said(catalog: Catalog, folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(ModelNotFoundError, match=r"'waltz' is in .*catalog\.json, but its folder .*waltz is not there"):
        locate("waltz")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "can not be read"),
        ("[]", "must hold a JSON object"),
        ('{"version": 2}', "version = 2 must be 1"),
        ('{"version": 1}', "must hold an object 'models'"),
        ('{"version": 1, "models": {"a": {}}}', "'a' can not be read"),
        ('{"version": 1, "models": {"a": {"files": {}, "colour": 1}}}', "'a' can not be read: .*colour"),
    ],
)
def test_a_broken_catalog_is_named(content: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "catalog.json"
    file.write_text(content)
    with pytest.raises(CheckpointError, match=f"{file}.*{complaint}"):
        Catalog.load(file)


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "a b", "ä", "a" * 64, ".."])
def test_names_that_can_not_be_used(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="a model's name is of a-z"):
        check_name(name)
    assert check_name("musicgen-stereo-large_2.1") == "musicgen-stereo-large_2.1"


def test_the_file_can_be_read_by_people(catalog: Catalog) -> None:
    content = json.loads(catalog.file.read_text())
    (record, *_) = content["models"]["waltz"]["files"].values()
    assert FileRecord(**record).sha256 == record["sha256"]
    assert catalog.file.read_text().count("\n") > 20


ADDING = """
import sys
from pathlib import Path
from models.catalog_file import Catalog, Entry
catalog = Catalog.load(Path(sys.argv[1]))
print("loaded", flush=True)
sys.stdin.readline()
for number in range(20):
    catalog.put(f"{sys.argv[2]}{number}", Entry("x", "transformers", "MIT", {}))
"""


def test_what_two_processes_add_at_once_is_all_there(tmp_path: Path) -> None:
    """Both have read the file before either writes."""
    file = tmp_path / "catalog.json"
    command = [sys.executable, "-c", ADDING, str(file)]
    both = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        process.communicate()
        assert process.returncode == 0
    assert set(Catalog.load(file).entries) == {f"{name}{number}" for name in "ab" for number in range(20)}


def test_a_model_that_another_has_changed_is_not_overwritten(catalog: Catalog) -> None:
    entry = catalog.entries["waltz"]
    fresh = catalog.put("waltz", replace(entry, licence="MIT"))
    with pytest.raises(CheckpointError, match=r"'waltz' was changed by another command meanwhile: try again"):
        catalog.put("waltz", replace(entry, checked_at="2026-11-21"))
    assert Catalog.load().entries == fresh.entries
    assert fresh.put("waltz", entry).entries == catalog.entries


def test_a_catalog_that_can_not_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "catalog.json.lock").mkdir()
    with pytest.raises(IsADirectoryError):
        Catalog.load(tmp_path / "catalog.json").put("a", Entry("x", "transformers", "MIT", {}))
