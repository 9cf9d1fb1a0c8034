"""Where ``tutti generate`` puts what it made: nothing half-written is ever left under the name that was asked for.

The bytes come from the same encoders as the server's, so a file is the same however it was made.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import soundfile

from api.cli_output import CliError, usage_error
from api.formats.audio import Encoder, LiveFormat, make_encoder, to_pcm16
from models.types import AudioChunk

FORMATS: dict[str, LiveFormat] = {".wav": "wav", ".flac": "flac", ".mp3": "mp3"}  # by the file's suffix


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
        self._file: BinaryIO | None = None
        self._encoder: Encoder | None = None

    def write(self, chunk: AudioChunk) -> None:
        """Append a chunk's samples; the first chunk says rate and channels, the last one may bring the codes.

        Raises:
            CliError: the disk is full, or the file cannot be written.
            InvalidRequestError: the format cannot carry this sample rate.
        """
        try:
            if self._encoder is None or self._file is None:
                self._encoder = make_encoder(FORMATS[self._audio.suffix.lower()], chunk)
                self._file = self._renames[self._audio].open("xb")
            self._file.write(self._encoder.encode(to_pcm16(chunk.pcm, chunk.channels)))
            if chunk.is_last:
                self._file.write(self._encoder.finish())
                self._write_tokens(chunk)
        except (OSError, soundfile.SoundFileError) as error:
            raise self._write_error(error) from error

    def commit(self) -> None:
        """Give the files their names; call it after the last chunk.

        Raises:
            CliError: a file cannot be finished or renamed.
        """
        try:
            self._close()
            for path, temporary in self._renames.items():
                temporary.replace(path)
        except OSError as error:
            raise self._write_error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        for temporary in self._renames.values():
            temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _write_tokens(self, chunk: AudioChunk) -> None:
        if self._tokens is None:
            return
        if chunk.codes is None:
            raise CliError("the engine returned no codes: this is a bug", "failed")
        with self._renames[self._tokens].open("xb") as file:
            np.save(file, np.frombuffer(chunk.codes, dtype="<i8").reshape(self._num_codebooks, -1))

    def _write_error(self, error: Exception) -> CliError:
        reason = getattr(error, "strerror", None) or error
        return CliError(f"cannot write {self._audio}: {reason}", "system_error")


def _temporary(path: Path) -> Path:
    """A hidden name in the same folder, so that the rename is atomic."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
