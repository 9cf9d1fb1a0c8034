"""Models from a hub: both formats, a line that is cut, a cache without a network, and all that can go wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from models import hub_files
from models.checkpoint import load_checkpoint
from models.checkpoint_files import WEIGHTS, CheckpointFiles, Format
from models.errors import CheckpointError
from models.hub import Hub, HubError, is_hub_id
from tests.audiocraft_files import CODEC, TEXT_ENCODER, export
from tests.factories import make_checkpoint
from tests.hub_server import COMMIT, HubServer

SHAPE: dict[str, Any] = {"hidden": 32, "layers": 1, "heads": 4, "ffn": 64, "text_hidden": 16, "ratios": (4, 2)}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the published ones: a folder with both formats, and files that nobody needs."""
    folder = make_checkpoint(tmp_path_factory.mktemp("models") / "both", **SHAPE)
    exported = export(folder, folder.parent / "exported")
    for name in ("state_dict.bin", "compression_state_dict.bin"):
        (folder / name).write_bytes((exported / name).read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    return folder


@pytest.fixture
def server(both: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    exported = both.parent / "exported"
    models = {
        "org/both": both,
        "org/old": exported,
        f"facebook/{CODEC}": exported / CODEC,
        f"google-t5/{TEXT_ENCODER}": exported / TEXT_ENCODER,
    }
    # Where the parts are looked for that a checkpoint only names.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_files, "LARGE_BYTES", 100_000)
    monkeypatch.setattr(hub_files, "RETRY_DELAYS_S", (0.0, 0.0))
    with HubServer(models) as running:
        yield running


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return Hub(server.url, tmp_path / "cache")


def test_a_model_in_transformers_format(hub: Hub, server: HubServer, both: Path) -> None:
    files = hub.fetch("org/both")
    assert files.folder.name == COMMIT
    assert files.format is Format.TRANSFORMERS
    assert load_checkpoint(files).config == load_checkpoint(both).config
    asked = {name for name, _ in server.requests}
    assert WEIGHTS in asked
    assert not asked & {"pytorch_model.bin", "state_dict.bin"}
    server.requests.clear()
    assert hub.fetch("org/both") == files
    assert server.requests == []  # all of it is in the cache


def test_a_model_in_audiocraft_format_with_what_it_names(hub: Hub, server: HubServer) -> None:
    files = hub.fetch("org/old")
    assert files.format is Format.AUDIOCRAFT
    assert (files.codec, files.text_encoder) != (None, None)
    load_checkpoint(files)
    # The cache is enough from now on.
    load_checkpoint(CheckpointFiles(files.folder))
    assert hub.fetch("org/old").folder == files.folder


def test_the_format_can_be_chosen(hub: Hub) -> None:
    files = hub.fetch("org/both", wanted=Format.AUDIOCRAFT)
    assert files.format is Format.AUDIOCRAFT
    load_checkpoint(files)
    with pytest.raises(CheckpointError, match="org/old has no checkpoint in transformers format"):
        hub.fetch("org/old", wanted=Format.TRANSFORMERS)


def test_the_other_format_in_the_same_place_is_said(hub: Hub) -> None:
    folder = hub.fetch("org/both").folder
    with pytest.raises(CheckpointError, match=f"{folder} holds org/both in transformers format too"):
        hub.fetch("org/both", wanted=Format.AUDIOCRAFT)


def test_a_part_of_which_only_some_files_are_cached_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """Others fetch a text encoder's configuration or its tokenizer alone."""
    whole = hub.fetch("org/old")
    assert whole.text_encoder is not None
    for name in (WEIGHTS, "tokenizer.json"):
        (whole.text_encoder / name).unlink()
        assert hub.fetch("org/old") == whole
        load_checkpoint(whole)


def weights_asked(server: HubServer) -> list[str | None]:
    return [wanted for name, wanted in server.requests if name == WEIGHTS]


def test_a_line_that_is_cut_is_taken_up_where_it_was(hub: Hub, server: HubServer, both: Path) -> None:
    server.cut[WEIGHTS] = [20_000, 5_000, 0, 3]
    files = hub.fetch("org/both")
    assert (files.folder / WEIGHTS).read_bytes() == (both / WEIGHTS).read_bytes()
    assert weights_asked(server) == [None, "bytes=20000-", "bytes=25000-", "bytes=25000-", "bytes=25003-"]
    left = {file.suffix for file in files.folder.parents[1].joinpath("blobs").iterdir()}
    assert ".partial" not in left


def test_a_download_that_failed_goes_on_the_next_time(hub: Hub, server: HubServer, both: Path) -> None:
    server.cut[WEIGHTS] = [20_000, 0, 0, 0]
    with pytest.raises(HubError, match=r"org/both can not be fetched: .* What came so far is kept"):
        hub.fetch("org/both")
    server.cut.clear()
    server.requests.clear()
    files = hub.fetch("org/both")
    assert (files.folder / WEIGHTS).read_bytes() == (both / WEIGHTS).read_bytes()
    assert weights_asked(server) == ["bytes=20000-"]


def test_a_hub_that_can_not_go_on_begins_anew(hub: Hub, server: HubServer, both: Path) -> None:
    server.cut[WEIGHTS], server.knows_ranges = [20_000], False
    files = hub.fetch("org/both")
    assert (files.folder / WEIGHTS).read_bytes() == (both / WEIGHTS).read_bytes()
    assert weights_asked(server) == [None, "bytes=20000-"]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_file_that_ends_too_soon_is_asked_for_again_and_then_given_up(
    knows_ranges: bool, hub: Hub, server: HubServer
) -> None:
    """As where a proxy keeps half of a file: no line is cut, and nothing new ever comes."""
    server.short[WEIGHTS], server.knows_ranges = 20_000, knows_ranges
    with pytest.raises(HubError, match="it ended before anything new came"):
        hub.fetch("org/both")
    assert weights_asked(server) == [None, *["bytes=20000-"] * 3]


def test_what_came_damaged_is_not_kept(hub: Hub, server: HubServer, tmp_path: Path, both: Path) -> None:
    (tmp_path / "cache" / "models--org--both" / "blobs").mkdir(parents=True)
    checksum = hashlib.sha256((both / WEIGHTS).read_bytes()).hexdigest()
    partial = tmp_path / "cache" / "models--org--both" / "blobs" / f"{checksum}.partial"
    partial.write_bytes(b"x" * 1000)
    with pytest.raises(HubError, match=r"org/both: model\.safetensors came damaged: sha256 .*; try again"):
        hub.fetch("org/both")
    assert not partial.exists()
    hub.fetch("org/both")


def test_a_hub_that_refuses_is_said(hub: Hub, server: HubServer) -> None:
    server.refuse.add(WEIGHTS)
    with pytest.raises(HubError, match=r"did not answer as it should .*500"):
        hub.fetch("org/both")


def test_without_a_network_the_cache_is_used(hub: Hub, server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    files = hub.fetch("org/both")
    server.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch("org/both") == files
    assert server.requests == []
    with pytest.raises(HubError, match=r"org/old can not be fetched: HF_HUB_OFFLINE is set, and the cache .* has not"):
        hub.fetch("org/old")


def test_a_cache_with_half_a_model_is_not_enough(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = hub.fetch("org/both")
    (files.folder / WEIGHTS).unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="has not all of it"):
        hub.fetch("org/both")


def test_nobody_answers(tmp_path: Path) -> None:
    with HubServer({}) as gone:
        url = gone.url
    with pytest.raises(HubError) as caught:
        Hub(url, tmp_path / "cache").fetch("org/both")
    message = str(caught.value)
    assert f"org/both can not be fetched: {url} did not answer as it should" in message
    assert f"the cache {tmp_path / 'cache'} has not all of it" in message
    assert "`hf download org/both`, copy the folder here, and give its path" in message


@pytest.mark.parametrize(
    ("hub_id", "revision", "complaint"),
    [
        ("org/none", None, "there is no org/none on http://127.0.0.1:.*, or it is private"),
        ("org/both", "v9", "org/both has no revision 'v9'"),
        ("org/bo..th", None, "'org/bo..th' is no id of a model on the hub"),
    ],
)
def test_what_is_not_there_is_said(hub: Hub, hub_id: str, revision: str | None, complaint: str) -> None:
    with pytest.raises(HubError, match=complaint):
        hub.fetch(hub_id, revision)


def test_a_model_without_weights_that_can_be_read(hub: Hub, server: HubServer, both: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    (other / "pytorch_model.bin").write_bytes(b"a pickle")
    server.models = {**server.models, "org/other": other}
    with pytest.raises(CheckpointError, match=r"org/other has neither safetensors weights nor a state_dict\.bin"):
        hub.fetch("org/other")


def test_ids() -> None:
    assert is_hub_id("facebook/musicgen-small")
    assert not any(is_hub_id(other) for other in ("tiny", "a/b/c", "/a", "a/", "../.. /x", ""))
