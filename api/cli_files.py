"""Where ``tutti generate`` puts what it made: nothing half-written is ever left under the name that was asked for."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile

from api.cli_output import CliError, usage_error
from models.types import AudioChunk

# Suffix → libsndfile's format and sample encoding.
FORMATS: dict[str, tuple[str, str]] = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


def check_target(path: Path, suffixes: tuple[str, ...], option: str) -> None:
    """Refuse a target that could not be written, before anything slow is started.

    Raises:
        CliError: a usage error naming the option.
    """
    if path.suffix.lower() not in suffixes:
        raise usage_error(f"{option} {path}: the name must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise usage_error(f"{option} {path} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise usage_error(f"{option} {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise usage_error(f"{option} {path}: {path.parent} is not writable")


class TrackFiles:
    """The audio file, and the codes beside it if wanted, under temporary names until commit().

    Use as a context manager: leaving it without a commit leaves nothing behind.

    Args:
        audio: the audio file; its suffix says the format.
        tokens: the .npy file of the codes, or None.
        num_codebooks: K of the codes; needed only with ``tokens``.
    """

    def __init__(self, audio: Path, tokens: Path | None = None, *, num_codebooks: int = 0) -> None:
        self._renames = {path: _temporary(path) for path in (audio, tokens) if path is not None}
        self._audio, self._tokens = audio, tokens
        self._num_codebooks = num_codebooks
        self._file: soundfile.SoundFile | None = None

    def write(self, chunk: AudioChunk) -> None:
        """Append a chunk's samples; the first chunk says rate and channels, the last one may bring the codes.

        Raises:
            CliError: the disk is full, or the file cannot be written.
        """
        try:
            if self._file is None:
                self._file = self._open(chunk)
            self._file.write(_pcm16(chunk))
            if chunk.is_last and self._tokens is not None:
                self._write_tokens(chunk, self._renames[self._tokens])
        except (OSError, soundfile.SoundFileError) as error:
            raise self._write_error(error) from error

    def commit(self) -> None:
        """Finish the files and give them their names.

        Raises:
            CliError: a file cannot be finished or renamed.
        """
        try:
            self._close()
            for path, temporary in self._renames.items():
                temporary.replace(path)
        except (OSError, soundfile.SoundFileError) as error:
            raise self._write_error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        for temporary in self._renames.values():
            temporary.unlink(missing_ok=True)

    def _open(self, chunk: AudioChunk) -> soundfile.SoundFile:
        container, encoding = FORMATS[self._audio.suffix.lower()]
        return soundfile.SoundFile(
            self._renames[self._audio],
            "w",
            samplerate=chunk.sample_rate,
            channels=chunk.channels,
            format=container,
            subtype=encoding,
        )

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write_tokens(self, chunk: AudioChunk, path: Path) -> None:
        if chunk.codes is None:
            raise CliError("the engine returned no codes: this is a bug", "failed")
        with path.open("wb") as file:
            np.save(file, np.frombuffer(chunk.codes, dtype="<i8").reshape(self._num_codebooks, -1))

    def _write_error(self, error: Exception) -> CliError:
        reason = getattr(error, "strerror", None) or error
        return CliError(f"cannot write {self._audio}: {reason}", "system_error")


def _temporary(path: Path) -> Path:
    """A hidden name in the same folder, so that the rename is atomic."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _pcm16(chunk: AudioChunk) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """Samples as every file holds them: int16 [samples, channels]."""
    samples = np.frombuffer(chunk.pcm, dtype="<f4").reshape(-1, chunk.channels)
    scaled: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.clip(samples, -1.0, 1.0) * np.float32(32767.0)
    return np.rint(scaled).astype(np.int16)
