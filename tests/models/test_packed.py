"""Packed weights that are kept: the same music, nothing of the checkpoint read again, and never a broken start."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import checkpoint_tensors
from models.checkpoint_files import CheckpointFiles
from models.engine.engine import Engine
from models.engine.loader import load_model
from models.engine_config import WEIGHT_FORMATS, EngineConfig
from models.errors import CheckpointError, InvalidRequestError
from models.packed.cache import FOLDER_VARIABLE, LIMIT_VARIABLE, WeightCache
from models.packed.file import PackedWriter, open_packed
from models.packed.identity import _looked_at, identity_of
from models.packed.store import kept_weights, mapped_weights
from models.read_ahead import _packed
from tests.factories import make_checkpoint
from tests.models.engine_support import drive, request

KEY = "key"
TENSORS = {
    "a.data": torch.arange(300, dtype=torch.int8).view(3, 100),
    "a.scales": torch.randn(7),
    "b": torch.randn(2, 3, 5).bfloat16(),
    "c": torch.arange(200, dtype=torch.uint8).view(2, 100).t(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a shape that all kernels take."""
    place = tmp_path_factory.mktemp("checkpoint")
    return make_checkpoint(place, hidden=64, layers=2, heads=4, ffn=128, vocab=64, ratios=(4, 2), filters=4)


def cache_in(place: Path, limit_bytes: int = 1 << 30, patience_s: float = 60.0) -> WeightCache:
    return WeightCache(place, limit_bytes, smallest_bytes=0, patience_s=patience_s)


def started(folder: Path, cache: WeightCache, weights: str = "int8") -> tuple[bytes, bytes]:
    """Codes and samples of one track."""
    config = EngineConfig(weights=weights, max_rows=2, return_codes=True, num_threads=1)
    engine = Engine(load_model(folder, config, cache=cache), config)
    track = drive(engine, {0: [request(seed=5, frames=20)]})["r"]
    codes = track.chunks[-1].codes
    assert codes is not None
    return codes, b"".join(chunk.pcm for chunk in track.chunks)


def keep(cache: WeightCache) -> dict[str, Tensor] | None:
    found = kept_weights(cache, KEY, lambda: iter(TENSORS.items()), lambda: True)
    return None if found is None else dict(found)


def nothing() -> Iterator[tuple[str, Tensor]]:
    pytest.fail("packed, though another process was to do it")


# ------------------------------------------------------------------------------------------------------ whole models
@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_music_is_the_same_to_the_last_bit(
    folder: Path, tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_in(tmp_path / "kept")
    own = started(folder, cache_in(tmp_path / "kept", limit_bytes=0), weights)
    first = started(folder, cache, weights)
    (file,) = cache.entries()

    def refuse(*_: object) -> Tensor:
        pytest.fail("a tensor of the checkpoint was read")

    monkeypatch.setattr(checkpoint_tensors, "_read", refuse)
    second = started(folder, cache, weights)
    for made in (first, second):
        assert made == own
    assert cache.entries() == [file]
    assert cache.entries(identity_of(CheckpointFiles(folder)).digest) == [file]


def test_small_models_and_an_empty_cache_are_packed_by_each_replica(folder: Path, tmp_path: Path) -> None:
    started(folder, WeightCache(tmp_path / "kept", 1 << 30))
    started(folder, cache_in(tmp_path / "kept", limit_bytes=0))
    assert not (tmp_path / "kept").exists()


def test_what_is_wrong_with_a_checkpoint_is_said_and_nothing_left_behind(tmp_path: Path) -> None:
    broken = make_checkpoint(tmp_path / "model", hidden=64, layers=1, heads=4, ffn=128, ratios=(4, 2), filters=4)
    cache = cache_in(tmp_path / "kept")

    def pack() -> Iterator[tuple[str, Tensor]]:
        yield "a", torch.ones(1)
        raise CheckpointError(f"{broken} is wrong")

    with pytest.raises(CheckpointError, match="is wrong"):
        kept_weights(cache, KEY, pack, lambda: True)
    assert list(cache.folder.iterdir()) == []


def test_what_is_read_ahead_is_what_was_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert _packed(CheckpointFiles(folder)) == []
    cache = cache_in(tmp_path)
    file = cache.file(f"{identity_of(CheckpointFiles(folder)).digest}-layout")
    file.write_bytes(b"x")
    assert _packed(CheckpointFiles(folder)) == [file]
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    assert _packed(CheckpointFiles(folder)) == []


# ---------------------------------------------------------------------------------------------------------- the file
def test_tensors_come_back_aligned_and_can_not_be_written_to(tmp_path: Path) -> None:
    found = keep(cache_in(tmp_path))
    assert found is not None
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
        assert found[name].data_ptr() % 64 == 0
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert mapped
    assert all(line.split()[1] == "r--s" for line in mapped)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: bytes(64) + content[64:],
        lambda content: content[:-9] + b"X" + content[-8:],
    ],
    ids=["empty", "cut short", "too long", "no beginning", "other index"],
)
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture) -> None:
    cache = cache_in(tmp_path)
    keep(cache)
    file = cache.file(KEY)
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    assert mapped_weights(cache, KEY) is None
    assert "packed weights are damaged and made anew" in caplog.text
    found = keep(cache)
    assert found is not None
    assert torch.equal(found["b"], TENSORS["b"])


@pytest.mark.parametrize("reason", ["full", "no folder", "changed"])
def test_weights_that_can_not_be_kept_are_one_line_of_the_log(
    tmp_path: Path, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "kept"
    if reason == "no folder":
        place.write_text("a file")
    cache = cache_in(place, limit_bytes=500 if reason == "full" else 1 << 30)
    assert kept_weights(cache, KEY, lambda: iter(TENSORS.items()), lambda: reason != "changed") is None
    (line,) = (each for each in caplog.records if each.name == "models.packed.store")
    assert line.levelno == logging.WARNING
    assert "packed weights are not kept, so this replica has its own" in line.getMessage()
    assert reason == "no folder" or list(place.iterdir()) == []


def test_kept_weights_are_used_from_a_folder_that_can_only_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_in(tmp_path)
    keep(cache)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    assert mapped_weights(cache, KEY) is not None


# ------------------------------------------------------------------------------------------------- several processes
def test_who_comes_second_waits_for_the_first(tmp_path: Path) -> None:
    cache, found = cache_in(tmp_path), []
    waiting = threading.Thread(target=lambda: found.append(kept_weights(cache, KEY, nothing, lambda: True)))
    with cache.writing(cache.file(KEY)) as stream:
        assert stream is not None
        writer = PackedWriter(stream, 1 << 20)
        writer.add("b", TENSORS["b"])
        waiting.start()
        assert mapped_weights(cache, KEY) is None  # half a file is nobody's
        writer.finish()
    waiting.join()
    assert found[0] is not None
    assert torch.equal(found[0]["b"], TENSORS["b"])
    assert list(tmp_path.iterdir()) == [cache.file(KEY)]


def test_who_waited_for_too_long_packs_for_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = cache_in(tmp_path, patience_s=0.0)
    with cache.writing(cache.file(KEY)) as stream:
        assert stream is not None
        assert kept_weights(cache, KEY, nothing, lambda: True) is None
        PackedWriter(stream, 1 << 20).finish()
    assert "another process is writing for 0 s" in caplog.text
    assert open_packed(cache.file(KEY)) == {}


def test_what_a_dead_process_has_begun_is_taken_over_or_removed(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    for key in (KEY, "other"):
        cache.file(key).with_suffix(".partial").write_bytes(bytes(1 << 16))
    found = keep(cache)
    assert found is not None
    assert torch.equal(found["a.scales"], TENSORS["a.scales"])
    assert list(tmp_path.iterdir()) == [cache.file(KEY)]


# -------------------------------------------------------------------------------------------------------- the folder
def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, limit_bytes=2500)
    files = [cache.file(name) for name in "abcd"]
    for age, file in enumerate(files):
        file.write_bytes(bytes(1000))
        os.utime(file, (1e9 + age, 1e9 + age))
    cache.used(files[0])
    with cache.writing(cache.file("e")):
        assert cache.prune(keep=files[1]) == [files[3], files[2]]  # what is being written stays
    assert cache.entries() == [cache.file("e"), files[0], files[1]]


def test_settings_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    assert WeightCache.from_environment() == WeightCache(tmp_path / "tutti" / "weights", 16_000_000_000)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    monkeypatch.setenv(LIMIT_VARIABLE, "0.5")
    assert WeightCache.from_environment() == WeightCache(tmp_path / "mine", 500_000_000)
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv(LIMIT_VARIABLE, wrong)
        with pytest.raises(InvalidRequestError, match=f"{LIMIT_VARIABLE} must be a number of gigabytes, 0 for no"):
            WeightCache.from_environment()


# ------------------------------------------------------------------------------------------- which checkpoint it is
def test_other_weights_of_the_same_size_and_time_are_another_checkpoint(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_text("{}")
    model.write_bytes(os.urandom(9 << 20))
    status = model.stat()
    before = identity_of(CheckpointFiles(tmp_path))
    assert identity_of(CheckpointFiles(tmp_path)) == before
    assert before.num_bytes == (9 << 20) + 2
    model.write_bytes(os.urandom(9 << 20))
    os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert identity_of(CheckpointFiles(tmp_path)) != before
    assert identity_of(CheckpointFiles(folder)) != before


def test_content_tells_where_no_time_does(tmp_path: Path) -> None:
    """As between two images with all files of one date."""
    found = set()
    for content in (b"a", b"b"):
        file = tmp_path / "model.safetensors"
        file.write_bytes(content * (9 << 20))
        found.add(_looked_at(file, 9 << 20))
    assert len(found) == 2


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere is not a folder"):
        identity_of(CheckpointFiles(tmp_path / "nowhere"))
