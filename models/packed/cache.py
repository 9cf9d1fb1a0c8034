"""The folder that keeps packed weights between starts: who may write, and what goes when there is too much. No torch.

    IDENTITY-LAYOUT.weights     whole and on the disk: it got this name last
    IDENTITY-LAYOUT.partial     being written, by the process that holds its lock; anybody's who finds it unlocked

Files are made and removed, never changed: whoever has one mapped keeps what it has. What was used longest ago goes
first.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from models.errors import InvalidRequestError

FOLDER_VARIABLE, LIMIT_VARIABLE = "TUTTI_WEIGHT_CACHE", "TUTTI_WEIGHT_CACHE_GB"
DEFAULT_GB = 16.0
SUFFIX, PARTIAL = ".weights", ".partial"

SMALLEST_BYTES = 64 << 20
"""A checkpoint below this is packed in less time than its file takes to be written safely."""

LEFT_FREE_BYTES = 2 << 30
"""Never taken from a disk: Ray stops on a full one."""

_PATIENCE_S = 60.0
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class WeightCache:
    """
    Attributes:
        folder: made when something is first kept.
        limit_bytes: of all files together; 0: nothing is kept.
        smallest_bytes: a checkpoint with less is packed by each process for itself.
        patience_s: how long to wait for another process that packs the same weights.
    """

    folder: Path
    limit_bytes: int
    smallest_bytes: int = SMALLEST_BYTES
    patience_s: float = _PATIENCE_S

    @classmethod
    def from_environment(cls) -> WeightCache:
        """What ``TUTTI_WEIGHT_CACHE`` and ``TUTTI_WEIGHT_CACHE_GB`` say.

        Raises:
            InvalidRequestError: the size is no number of at least 0.
        """
        named = os.environ.get(FOLDER_VARIABLE)
        usual = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tutti" / "weights"
        said = os.environ.get(LIMIT_VARIABLE) or DEFAULT_GB
        try:
            limit = float(said)
        except ValueError:
            limit = math.nan
        if not 0 <= limit < math.inf:
            message = f"{LIMIT_VARIABLE} must be a number of gigabytes, 0 for no cache, got {said!r}"
            raise InvalidRequestError(message, param=LIMIT_VARIABLE)
        return cls(Path(named) if named else usual, int(limit * 1e9))

    def keeps(self, num_bytes: int) -> bool:
        """Whether weights of a checkpoint of that size are kept at all."""
        return self.limit_bytes > 0 and num_bytes >= self.smallest_bytes

    def file(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def entries(self, beginning: str = "") -> list[Path]:
        """Whole files whose names begin so, those used last first."""
        found = [(_used_at(file), file) for file in self.folder.glob(f"{beginning}*{SUFFIX}")]
        return [file for used_at, file in sorted(found, reverse=True) if used_at]

    def num_bytes(self) -> int:
        """Of all whole files."""
        return sum(map(_size, self.entries()))

    def room(self) -> int:
        """Bytes that one file may have."""
        return min(self.limit_bytes, shutil.disk_usage(self.folder).free - LEFT_FREE_BYTES)

    def used(self, file: Path) -> None:
        """It goes last now. A cache that can only be read has no order."""
        with suppress(OSError):
            os.utime(file)

    def prune(self, keep: Path) -> list[Path]:
        """Remove what nobody writes on any more, and what was used longest ago, until the rest is within the limit.

        Returns:
            What was removed.
        """
        removed = [partial for partial in self.folder.glob(f"*{PARTIAL}") if _abandoned(partial)]
        total = 0
        for file in [keep, *(each for each in self.entries() if each != keep)]:
            total += _size(file)
            if total > self.limit_bytes and file != keep:
                file.unlink(missing_ok=True)
                removed.append(file)
        return removed

    @contextmanager
    def writing(self, file: Path) -> Iterator[FileIO | None]:
        """An empty file to write that becomes ``file`` at the end, as a whole; no other process writes it meanwhile.

        None: ``file`` is there, because another process was faster.

        Raises:
            OSError: the folder can not be written to; TimeoutError: another process is at it for too long.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(PARTIAL)
        stream = self._alone(partial, file)
        if stream is None:
            yield None
            return
        with stream:  # closing it ends the lock
            try:
                yield stream
                os.fsync(stream.fileno())
                partial.replace(file)
                _sync(self.folder)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def _alone(self, partial: Path, file: Path) -> FileIO | None:
        until = time.monotonic() + self.patience_s
        while not file.exists():
            stream = FileIO(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+")
            if _locked(stream) and _is(stream, partial) and not file.exists():
                stream.truncate(0)
                return stream
            stream.close()
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, f"another process is writing for {self.patience_s:g} s", partial)
            time.sleep(_LOOK_AGAIN_S)
        return None


def _locked(stream: FileIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(stream: FileIO, path: Path) -> bool:
    """Whether a file is still the one at that path: it may have been renamed or removed before it was locked."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False


def _abandoned(partial: Path) -> bool:
    """Remove a file that was begun by a process which is no more."""
    with suppress(OSError), FileIO(partial, "r+") as stream:
        if _locked(stream) and _is(stream, partial):
            partial.unlink()
            return True
    return False


def _used_at(file: Path) -> float:
    """0: it has gone."""
    with suppress(OSError):
        return file.stat().st_mtime
    return 0.0


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0


def _sync(folder: Path) -> None:
    """So that the new name outlives the machine's power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
