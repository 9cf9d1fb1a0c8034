"""The catalog: a JSON file that names the models a deployment may serve, where they lie, and what their files were.

A path inside the file's own folder is kept relative to it, so that the folder can be copied or mounted elsewhere as a
whole. No torch here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.checkpoint_files import CheckpointFiles, files_that_matter, parts_of
from models.config_file import read_json
from models.errors import CheckpointError, InvalidRequestError

CATALOG_VARIABLE = "TUTTI_MODEL_CATALOG"
REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_CATALOG = Path("checkpoints", "catalog.json")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_READ_BYTES = 1 << 22
_VERSION = 1

Progress = Callable[[int], None]
"""Told of every so many bytes that were read."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file was when it was last read as a whole."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, file: Path, progress: Progress | None = None) -> FileRecord:
        """Read the file."""
        before, digest = file.stat(), hashlib.sha256()
        with file.open("rb") as stream:
            while piece := stream.read(_READ_BYTES):
                digest.update(piece)
                if progress is not None:
                    progress(len(piece))
        return cls(before.st_size, before.st_mtime_ns, digest.hexdigest())

    def looks_the_same(self, file: Path) -> bool:
        """By size and time only, without reading it."""
        now = file.stat()
        return (now.st_size, now.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalog.

    Attributes:
        path, codec, text_encoder, style_encoder: as in `CheckpointFiles`; relative ones are taken from the catalog's
            folder.
        source: the hub's id that it was fetched from, if it was.
        revision: the hub's commit.
        variant: name of the published model, or None.
        licence: of the weights.
        checked_at: when its files were last found to be what they were (UTC, RFC 3339); None: never.
        files: path → what it was when the model was added.
    """

    path: str
    format: str
    licence: str
    files: Mapping[str, FileRecord]
    codec: str | None = None
    text_encoder: str | None = None
    style_encoder: str | None = None
    source: str | None = None
    revision: str | None = None
    variant: str | None = None
    added_at: str = ""
    checked_at: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(record.size for record in self.files.values())


@dataclass(frozen=True, slots=True)
class Catalog:
    """The file's content as it was when it was loaded; `put` changes the file and makes a new one.

    Raises:
        CheckpointError: (from `load`) the file is broken; a catalog that is not there is empty.
    """

    file: Path
    entries: Mapping[str, Entry]

    @classmethod
    def load(cls, file: Path | None = None) -> Catalog:
        """The catalog of that file; without one that of TUTTI_MODEL_CATALOG, or checkpoints/catalog.json."""
        file = file or REPOSITORY / (os.environ.get(CATALOG_VARIABLE) or DEFAULT_CATALOG)
        if not file.exists():
            return cls(file, {})
        content = read_json(file)
        if content.get("version") != _VERSION:
            raise CheckpointError(f"{file}: version = {content.get('version')!r} must be {_VERSION}")
        models = content.get("models")
        if not isinstance(models, dict):
            raise CheckpointError(f"{file} must hold an object 'models'")
        return cls(file, {name: _entry(file, name, values) for name, values in models.items()})

    def put(self, name: str, entry: Entry) -> Catalog:
        """Write this model into the file, as a whole or not at all; what others have written since this was loaded
        stays, and is in the catalog that is returned.

        Raises:
            CheckpointError: the file is broken, or another has changed this very model since.
            OSError: it can not be written.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with _alone(self.file):
            now = Catalog.load(self.file)
            if now.entries.get(name) != self.entries.get(name):
                raise CheckpointError(f"{self.file}: {name!r} was changed by another command meanwhile: try again")
            fresh = replace(now, entries={**now.entries, name: entry})
            fresh._write()
        return fresh

    def _write(self) -> None:
        content = {"version": _VERSION, "models": {name: asdict(self.entries[name]) for name in sorted(self.entries)}}
        fresh = self.file.with_name(self.file.name + ".partial")
        fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        fresh.replace(self.file)

    def files_of(self, name: str) -> CheckpointFiles:
        """Where that model's checkpoint lies."""
        entry = self.entries[name]
        others = (entry.codec, entry.text_encoder, entry.style_encoder)
        return CheckpointFiles(self.place(entry.path), *(None if each is None else self.place(each) for each in others))

    def place(self, path: str) -> Path:
        """Where a path of an entry is."""
        return self.file.parent / path

    def path_to(self, place: Path) -> str:
        """How an entry names that place."""
        place, folder = place.absolute(), self.file.parent.absolute()  # a link is a place of its own
        return str(place.relative_to(folder)) if place.is_relative_to(folder) else str(place)

    def record(self, files: CheckpointFiles, progress: Progress | None = None) -> dict[str, FileRecord]:
        """Read all files of a checkpoint, those of its codec and encoders included."""
        found = [file for part in parts_of(files) for file in files_that_matter(*part)]
        return {self.path_to(file): FileRecord.of(file, progress) for file in found}

    def state(self, name: str) -> str:
        """What is known of that model's files without reading them: "checked", "recorded" (never checked), "touched"
        (size or time of one are others now) or "missing"."""
        entry = self.entries[name]
        for path, record in entry.files.items():
            file = self.place(path)
            if not file.is_file():
                return "missing"
            if not record.looks_the_same(file):
                return "touched"
        return "recorded" if entry.checked_at is None else "checked"

    def verify(self, name: str, progress: Progress | None = None) -> dict[str, FileRecord]:
        """Read all of that model's files again.

        Raises:
            CheckpointError: naming the first that is gone or is not what it was when the model was added.
        """
        fresh = {}
        for path, record in self.entries[name].files.items():
            file = self.place(path)
            if not file.is_file():
                raise CheckpointError(f"{file} is missing; it was there when {name!r} was added")
            fresh[path] = FileRecord.of(file, progress)
            if fresh[path].sha256 != record.sha256:
                raise CheckpointError(
                    f"{file} is not what it was when {name!r} was added: sha256 {fresh[path].sha256} instead of "
                    f"{record.sha256}. Copy it again, or add the model again if it was meant to change"
                )
        return fresh


def check_name(name: str) -> str:
    """A name that can be used in a configuration, in an URL and as a file's name.

    Raises:
        InvalidRequestError: it can not.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"a model's name is of a-z, 0-9, '.', '_' and '-', at most 63, and begins with a letter or digit: {name!r}",
            param="name",
        )
    return name


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """No other process is in here with that file. The lock is a file of its own, which stays: the catalog itself is
    replaced, and who waited for a lock on what was replaced would hold none."""
    with file.with_name(file.name + ".lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        yield


def _entry(file: Path, name: str, values: Any) -> Entry:
    try:
        files = {path: FileRecord(**record) for path, record in values["files"].items()}
        return Entry(**{**values, "files": files})
    except (TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{file}: {name!r} can not be read: {error}") from error
