"""The decoder, in a process of its own: a file in on standard input, samples out on standard output.

Decoders of audio are large C programs that parse whatever strangers send. Here one of them runs with little memory,
seconds of processor time, no file or socket to open and nothing in its environment; what it may return is counted.
The answer is one line of JSON, ``{"sample_rate", "channels", "total_samples"}`` or ``{"error"}``, and then float32
samples.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile

from api.formats.base import FloatSamples
from api.formats.resample import resampled

MEMORY_BYTES = 768 * 2**20
CPU_S = 20
MAX_RATE = 48_000
_BLOCK = 65_536
INAUDIBLE = 1e-4  # of full scale: −80 dB
_MAX_PEAK = 16.0  # +24 dB over full scale: such samples are not in [-1, 1] by intention
_OPENED_AS = {"wav": {"WAV", "WAVEX"}, "flac": {"FLAC"}, "mp3": {"MP3"}, "ogg": {"OGG"}}


class DecodeError(Exception):
    """The message is one of the words that ``api.uploads.decoder`` knows."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may be.

    Attributes:
        max_duration_s: seconds of audio; not one block more is decoded.
        declared_samples: what its header says, which must be true.
    """

    container: str
    max_duration_s: float
    declared_samples: int | None


def decode(data: bytes, limits: Limits) -> tuple[int, FloatSamples]:
    """(sample rate, samples ``[total, channels]``), at most 48 kHz.

    Raises:
        DecodeError: it cannot be decoded, or is not what it claims to be.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in _OPENED_AS[limits.container] or file.channels not in {1, 2}:
                raise DecodeError("damaged")
            samples = _read(file, limits.max_duration_s)
            rate: int = file.samplerate
    except soundfile.SoundFileError as error:
        raise DecodeError("damaged") from error
    if not len(samples):
        raise DecodeError("empty")
    if limits.declared_samples is not None and len(samples) != limits.declared_samples:
        raise DecodeError("truncated")
    peak = np.abs(samples).max()
    if not np.isfinite(peak) or peak > _MAX_PEAK:
        raise DecodeError("numbers")
    if peak < INAUDIBLE:
        raise DecodeError("silent")
    return min(rate, MAX_RATE), _at_most_48_khz(samples, rate)


def _read(file: soundfile.SoundFile, max_duration_s: float) -> FloatSamples:
    allowed = int(max_duration_s * file.samplerate)
    blocks, total = [], 0
    while total <= allowed:
        block = file.read(_BLOCK, dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(block)
        total += len(block)
    if total > allowed:
        raise DecodeError("too_long")
    return np.concatenate(blocks) if blocks else np.empty((0, file.channels), np.float32)


def _at_most_48_khz(samples: FloatSamples, rate: int) -> FloatSamples:
    return resampled(samples, rate, min(rate, MAX_RATE))


def confine() -> None:
    """Give up whatever decoding does not need. For good: neither this process nor a child gets it back."""
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),  # the three that are open: no other file and no socket, neither read nor written
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def main(arguments: list[str], source: BinaryIO, sink: BinaryIO) -> None:
    confine()
    try:
        rate, samples = decode(source.read(), Limits(**json.loads(arguments[0])))
    except DecodeError as error:
        sink.write(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    except MemoryError:
        sink.write(b'{"error": "damaged"}\n')
        return
    total, channels = samples.shape
    answer = {"sample_rate": rate, "channels": channels, "total_samples": total}
    sink.write(json.dumps(answer).encode() + b"\n")
    sink.write(np.ascontiguousarray(samples, "<f4").tobytes())


if __name__ == "__main__":
    main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer)
