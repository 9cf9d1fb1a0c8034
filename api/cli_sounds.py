"""Files of audio that ``tutti generate`` is given: what they may be, and what an engine in this process gets of them.

They are read as the server reads uploads, so the same files are refused in the same words. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from api.cli_order import OPTIONS, AudioId, Use
from api.cli_output import CliError, usage_error
from models.types import LONGEST_TRACK_S, AudioPrompt, CodePrompt

MAX_FILE_BYTES = 2**30
_ID = re.compile(r"(trk|upl)_[0-9a-f]{24}")
_CODES = ".npy"


def choose(given: Mapping[Use, str | None], *, has_server: bool) -> dict[Use, Path | AudioId]:
    """What was given, checked as far as it can be without reading it.

    Raises:
        CliError: a usage error naming the option.
    """
    return {use: _choice(use, value, has_server=has_server) for use, value in given.items() if value is not None}


def read_bytes(use: Use, path: Path) -> bytes:
    """
    Raises:
        CliError: it is too large, or can not be read.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise usage_error(f"{OPTIONS[use]} {path} has more than {MAX_FILE_BYTES // 2**20} MiB: give a part of it")
        return path.read_bytes()
    except OSError as error:
        raise usage_error(f"{OPTIONS[use]} {path} can not be read: {error.strerror}") from error


def read_prompt(path: Path, sample_rate: int) -> CodePrompt | AudioPrompt:
    """Music to go on from: the codes of a ``.npy`` file that ``--tokens-out`` wrote, or the sound of any other.

    Raises:
        CliError: a usage error saying what is wrong with the file.
        InvalidRequestError: it is no music.
    """
    return _codes(path) if path.suffix.lower() == _CODES else read_sound("continuation", path, sample_rate)


def read_sound(use: Use, path: Path, sample_rate: int) -> AudioPrompt:
    """
    Args:
        sample_rate: that it is wanted at, in Hz.

    Raises:
        CliError: a usage error saying what is wrong with the file.
    """
    # Late: a server needs none of it.
    from api.errors import ApiError
    from api.formats.resample import resampled
    from api.uploads.decode import DecodeError, Limits, decode
    from api.uploads.decoder import refusal
    from api.uploads.probe import probe

    data = read_bytes(use, path)
    try:
        file = probe(data, LONGEST_TRACK_S)
        rate, samples = decode(file.data, Limits(file.container, LONGEST_TRACK_S, file.declared_samples))
    except ApiError as error:
        raise _unreadable(use, path, error.message) from error
    except DecodeError as error:
        raise _unreadable(use, path, refusal(str(error), LONGEST_TRACK_S).message) from error
    samples = resampled(samples, rate, sample_rate)
    return AudioPrompt(np.ascontiguousarray(samples, dtype="<f4").tobytes(), samples.shape[1], sample_rate)


def _choice(use: Use, value: str, *, has_server: bool) -> Path | AudioId:
    option, path = OPTIONS[use], Path(value)
    if _ID.fullmatch(value) and not path.exists():
        if not has_server:
            raise usage_error(f"{option} {value} is known to a server only: add --url, or give a file")
        return AudioId(value)
    if not path.is_file():
        raise usage_error(f"{option} {value}: there is no such file")
    is_codes = path.suffix.lower() == _CODES
    if is_codes and use != "continuation":
        raise usage_error(f"{option} {value}: a {use} is a file of audio")
    if is_codes and has_server:
        raise usage_error(f"{option} {value}: a server takes audio and no codes. Drop --url, or give the sound")
    return path


def _unreadable(use: Use, path: Path, why: str) -> CliError:
    return usage_error(f"{OPTIONS[use]} {path} can not be read as audio: {why}")


def _codes(path: Path) -> CodePrompt:
    try:
        codes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise usage_error(f"--continue {path} can not be read as codes: {error}") from error
    if not isinstance(codes, np.ndarray) or codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise usage_error(f"--continue {path} holds no codes: give a file that --tokens-out wrote")
    return CodePrompt(np.ascontiguousarray(codes, dtype="<i8").tobytes(), len(codes))
