"""``tutti models`` as an operator calls it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

from api.cli import main
from api.cli_output import ExitCode
from models.catalog_file import CATALOG_VARIABLE, Catalog
from models.engine.trial import check_audio
from models.errors import CheckpointError
from models.variants import VARIANTS, Variant
from tests.audiocraft_files import CODEC, TEXT_ENCODER, export
from tests.factories import make_checkpoint
from tests.hub_server import COMMIT, HubServer
from tests.models.test_variants import write

Capture = pytest.CaptureFixture[str]
SHAPE: dict[str, Any] = {"hidden": 32, "layers": 1, "heads": 4, "ffn": 64, "text_hidden": 16}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("made") / "waltz", **SHAPE)


@pytest.fixture(autouse=True)
def catalog_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CATALOG_VARIABLE, str(tmp_path / "catalog.json"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "catalog.json"


def models(*arguments: str) -> int:
    return main(["models", *arguments])


def answer(capture: Capture) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(capture.readouterr().out)
    return said


def listed(capture: Capture) -> dict[str, dict[str, Any]]:
    assert models("list", "--json") == ExitCode.OK
    return {model["name"]: model for model in answer(capture)["data"]}


def test_add_list_and_check(made: Path, catalog_file: Path, capsys: Capture) -> None:
    assert models("add", str(made), "--licence", "CC-BY-4.0") == ExitCode.OK
    said = capsys.readouterr().out
    assert "waltz: a model of its own shape, transformers format, 0.4 MB; licence: CC-BY-4.0." in said
    assert f"files recorded in {catalog_file}" in said
    assert "`checkpoint: waltz` in serve_config.yaml" in said
    found = listed(capsys)
    assert found["tiny"]["files"] == "built in"
    waltz = found["waltz"]
    assert (waltz["files"], waltz["serves"], waltz["licence"], waltz["variant"]) == (
        "recorded",
        "yes",
        "CC-BY-4.0",
        None,
    )
    assert models("check", "waltz") == ExitCode.OK
    said = capsys.readouterr().out
    for part in ("licence: CC-BY-4.0", "sha256 as recorded", "tensors: all there", "music: 2 s in", "× real time"):
        assert part in said
    assert listed(capsys)["waltz"]["files"] == "checked"


def test_a_table_for_people(made: Path, capsys: Capture) -> None:
    assert models("add", str(made)) == ExitCode.OK
    capsys.readouterr()
    assert models("list") == ExitCode.OK
    head, tiny, melody, waltz = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "variant", "format", "size", "licence", "files", "serves"]
    assert (tiny.split()[0], melody.split()[0]) == ("tiny", "tiny-melody")
    assert waltz.split() == ["waltz", "transformers", "0.4", "MB", "unknown", "recorded", "yes"]


def test_check_of_a_folder_that_nobody_added(made: Path, capsys: Capture) -> None:
    assert models("check", str(made), "--json", "--weights", "int8") == ExitCode.OK
    said = answer(capsys)
    assert said["files"] == "not in the catalog, so there is nothing to compare them with"
    assert (said["licence"], said["channels"], said["sample_rate"]) == ("unknown", 1, 32_000)
    assert said["real_time_factor"] > 0
    assert 0 < said["rms"] <= said["peak"]


def test_check_of_a_melody_model_lets_it_follow_one(tmp_path: Path, capsys: Capture) -> None:
    folder = make_checkpoint(tmp_path / "tuneful", **SHAPE, melody=True)
    assert models("check", str(folder)) == ExitCode.OK
    assert "with text and a melody" in capsys.readouterr().out


def test_check_finds_what_has_changed(made: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "waltz"))
    assert models("add", str(folder)) == ExitCode.OK
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    capsys.readouterr()
    assert models("check", "waltz", "--json") == ExitCode.FAILED
    error = answer(capsys)["error"]
    assert error["code"] == "checkpoint_error"
    assert "model.safetensors is not what it was when 'waltz' was added" in error["message"]
    assert listed(capsys)["waltz"]["files"] == "touched"


def test_a_catalog_that_can_not_be_written_is_no_failure(made: Path, catalog_file: Path, capsys: Capture) -> None:
    assert models("add", str(made)) == ExitCode.OK
    catalog_file.with_name("catalog.json.partial").mkdir()  # what would be written is in the way
    capsys.readouterr()
    assert models("check", "waltz") == ExitCode.OK
    assert f"that can not be noted down in {catalog_file}: Is a directory" in capsys.readouterr().out
    assert listed(capsys)["waltz"]["files"] == "recorded"


def test_check_of_broken_tensors(made: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "waltz"))
    config = json.loads((folder / "config.json").read_text())
    config["decoder"]["ffn_dim"] = 128
    (folder / "config.json").write_text(json.dumps(config))
    assert models("check", str(folder)) == ExitCode.FAILED
    assert "fc1.weight has shape (64, 32), the config calls for (128, 32)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        (np.ones(9), "made 9 samples instead of 10"),
        (np.array([np.nan] * 3 + [0.1] * 7), "3 of 10 samples are no numbers"),
        (np.zeros(10), "it made silence"),
    ],
)
def test_what_is_no_music(samples: Any, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        check_audio(samples.astype(np.float32), 10)


def test_audiocraft_format_with_its_parts_elsewhere(made: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = export(made, tmp_path / "old")
    codec, text = (str(shutil.move(folder / name, tmp_path / f"my {name}")) for name in (CODEC, TEXT_ENCODER))
    assert models("add", str(folder)) == ExitCode.USAGE
    assert "add the model with --text-encoder FOLDER" in capsys.readouterr().err
    assert models("add", str(folder), "--codec", codec, "--text-encoder", text) == ExitCode.OK
    assert "audiocraft format" in capsys.readouterr().out
    assert models("check", "old") == ExitCode.OK
    output = tmp_path / "out.wav"
    assert main(["generate", "calm", "-o", str(output), "--model", "old", "--duration", "0.2"]) == ExitCode.OK
    assert output.stat().st_size > 10_000


@pytest.mark.parametrize("variant", [each for each in VARIANTS if each.name in ("stereo-melody", "style", "small")])
def test_a_published_model_is_recognised(variant: Variant, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / variant.name
    folder.mkdir()
    write(folder, variant, variant.formats[0])
    assert models("add", str(folder)) == ExitCode.OK
    said = capsys.readouterr().out
    assert f"of the shape of musicgen-{variant.name}" in said
    assert "licence: CC-BY-NC-4.0" in said
    row = listed(capsys)[variant.name]
    assert row["variant"] == variant.name
    assert row["serves"] == "yes"
    assert models("check", variant.name) == ExitCode.FAILED  # there are no weights
    missing = "has no tensor" if "style" in variant.conditioners else "is missing"
    assert missing in capsys.readouterr().err


def test_a_name_is_given_once(made: Path, tmp_path: Path, capsys: Capture) -> None:
    other = Path(shutil.copytree(made, tmp_path / "other"))
    assert models("add", str(made), "--name", "mine") == ExitCode.OK
    assert models("add", str(made), "--name", "mine") == ExitCode.OK  # the same again
    assert models("add", str(other), "--name", "mine") == ExitCode.USAGE
    assert "'mine' is " in capsys.readouterr().err
    assert models("add", str(other), "--name", "mine", "--replace") == ExitCode.OK
    assert Catalog.load().files_of("mine").folder == other


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere", "'nowhere' is neither a folder nor an id of the hub"),
        ("WALTZ --name Waltz", "a model's name is of a-z"),
        ("WALTZ --name tiny", "'tiny' is the name of a model that comes with the repository"),
        ("WALTZ --revision main", "--revision and --format are for the hub"),
        ("org/name --format onnx", "--format is one of transformers, audiocraft"),
    ],
)
def test_what_can_not_be_added(arguments: str, words: str, made: Path, catalog_file: Path, capsys: Capture) -> None:
    assert models("add", *arguments.replace("WALTZ", str(made)).split()) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not catalog_file.exists()


def test_a_folder_that_is_no_checkpoint(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    assert models("add", str(tmp_path / "empty")) == ExitCode.USAGE
    assert "config.json is missing, and so is state_dict.bin" in capsys.readouterr().err
    assert models("check", "nowhere") == ExitCode.USAGE
    assert "no model 'nowhere'" in capsys.readouterr().err


def test_from_a_hub_with_progress(made: Path, tmp_path: Path, catalog_file: Path) -> None:
    """In a process of its own, as its settings are read when it starts."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with HubServer({"org/waltz": made}) as hub:
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-m", "api.cli", "models", "add", "org/waltz", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "Fetching 5 files" in done.stderr
    added = json.loads(done.stdout)
    assert (added["name"], added["source"], added["revision"]) == ("waltz", "org/waltz", COMMIT)
    assert Path(added["path"]).is_relative_to(tmp_path / "home")
    # The hub is gone now.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == ExitCode.OK, done.stderr
