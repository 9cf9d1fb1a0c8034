"""Ids to folders to what a listener is told."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from models.catalog import TINY_PATH, describe, locate, resolve
from models.errors import CheckpointError, ModelNotFoundError
from tests.factories import make_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("models") / "small-one", stereo=True)


@pytest.fixture
def card(folder: Path) -> Path:
    file = folder / "tutti.json"
    file.unlink(missing_ok=True)
    return file


def test_without_a_card(folder: Path, card: Path) -> None:
    spec = describe(folder)
    assert (spec.id, spec.path, spec.licence, spec.description) == ("small-one", folder, "unknown", "")
    assert (spec.max_duration_s, spec.sample_rate, spec.channels) == (600.0, 32_000, 2)
    assert (spec.frame_rate, spec.num_codebooks) == (50, 8)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_with_a_card(folder: Path, card: Path) -> None:
    card.write_text(json.dumps({"licence": "CC-BY-4.0", "description": "plays waltzes"}))
    spec = describe(str(folder), "waltz")
    assert (spec.id, spec.licence, spec.description) == ("waltz", "CC-BY-4.0", "plays waltzes")


@pytest.mark.parametrize("broken", ["{", "[]", '{"license": "MIT"}', '{"licence": 3}'])
def test_a_broken_card_is_named(folder: Path, card: Path, broken: str) -> None:
    card.write_text(broken)
    with pytest.raises(CheckpointError, match=r"tutti\.json"):
        describe(folder)


def test_resolving_a_path(folder: Path) -> None:
    assert resolve(str(folder)) == resolve(folder) == folder


def test_a_relative_path_may_be_meant_beside_another(folder: Path) -> None:
    assert locate("small-one", beside=folder.parent).folder == folder
    assert locate(folder, beside=TINY_PATH).folder == folder
    assert locate("tiny", beside=folder.parent).folder == TINY_PATH
    with pytest.raises(ModelNotFoundError, match="no model 'small-one'"):
        locate("small-one", beside=TINY_PATH)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model 'tinny': give 'tiny' or 'tiny-melody', a name"):
        resolve("tinny")
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json and no state_dict\.bin, but nothing"):
        resolve(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json and no state_dict\.bin, but notes\.txt"):
        resolve(tmp_path)


def test_tiny_comes_with_the_repository() -> None:
    assert TINY_PATH.parts[-3:] == ("models", "tiny", "checkpoint")
    assert Path(__file__).parents[2] / "models" / "tiny" / "checkpoint" == TINY_PATH
    if not TINY_PATH.is_dir():  # not trained yet
        with pytest.raises(ModelNotFoundError, match="no model 'tiny'"):
            resolve("tiny")
        return
    assert describe(resolve("tiny")).id == "tiny"


def test_the_catalog_loads_no_torch() -> None:
    code = "import sys, models.catalog, models.config_file; print({'torch', 'transformers'} & set(sys.modules))"
    command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
