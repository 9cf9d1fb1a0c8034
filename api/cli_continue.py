"""``tutti generate --continue``: a file to go on from becomes a part of the request. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from api.cli_output import usage_error
from models.types import AudioPrompt, CodePrompt

OPTION = "--continue"


def read_prompt(path: Path) -> CodePrompt | AudioPrompt:
    """The codes of a ``.npy`` file that ``--tokens-out`` wrote, or the sound of any other.

    Raises:
        CliError: a usage error saying what is wrong with the file.
        InvalidRequestError: it is no music, or has more than two channels.
    """
    if not path.is_file():
        raise usage_error(f"{OPTION} {path}: there is no such file")
    return _codes(path) if path.suffix.lower() == ".npy" else _sound(path)


def _codes(path: Path) -> CodePrompt:
    try:
        codes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise usage_error(f"{OPTION} {path} can not be read as codes: {error}") from error
    if not isinstance(codes, np.ndarray) or codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise usage_error(f"{OPTION} {path} holds no codes: give a file that --tokens-out wrote")
    return CodePrompt(np.ascontiguousarray(codes, dtype="<i8").tobytes(), len(codes))


def _sound(path: Path) -> AudioPrompt:
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, TypeError, soundfile.SoundFileError) as error:  # TypeError: samples without a header
        raise usage_error(f"{OPTION} {path} can not be read as audio: {error}") from error
    return AudioPrompt(np.ascontiguousarray(samples, dtype="<f4").tobytes(), samples.shape[1], rate)
