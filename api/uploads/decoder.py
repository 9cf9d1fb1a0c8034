"""Hands files to decoder processes, a few at a time, and believes nothing they say without counting."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from api.errors import ApiError
from api.uploads.probe import MAX_CHANNELS, Probed, too_long, unreadable

CHILDREN = 2
WALL_S = 30.0
_ROOT = Path(__file__).resolve().parents[2]
_MAX_RATE = 48_000
_SAMPLE_BYTES = 4
_LINE_BYTES = 1_000
# Isolated: neither the environment nor the working directory decides what is imported.
_PROGRAM = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('api.uploads.decode', None, '__main__')"
)
_WHY = {
    "damaged": "it is damaged; export it anew, as WAV or FLAC",
    "empty": "it holds no sound",
    "silent": "it holds nothing but silence",
    "truncated": "it holds less or more than its header says; export it anew",
    "numbers": "its samples are not numbers between -1 and 1",
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """The sound of a file. ``pcm``: little-endian float32, channels interleaved."""

    sample_rate: int
    channels: int
    total_samples: int
    pcm: bytes


class Decoder:
    """Decodes files in processes of their own, at most ``CHILDREN`` at once.

    Args:
        max_duration_s: seconds of audio in a file.
    """

    def __init__(self, max_duration_s: float) -> None:
        self._max_duration_s = max_duration_s
        self._threads = ThreadPoolExecutor(CHILDREN, "upload-decoder")

    async def decode(self, file: Probed) -> Decoded:
        """
        Raises:
            ApiError: unreadable_audio, audio_too_long.
        """
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._run, file)
        return self._checked(answer)

    def close(self) -> None:
        """Take nothing more; what runs ends by itself, within its limits."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, file: Probed) -> bytes:
        limits = {"container": file.container, "max_duration_s": self._max_duration_s}
        arguments = json.dumps({**limits, "declared_samples": file.declared_samples})
        most = _LINE_BYTES + int(self._max_duration_s * _MAX_RATE + 1) * MAX_CHANNELS * _SAMPLE_BYTES
        command = [sys.executable, "-I", "-c", _PROGRAM, str(_ROOT), arguments]
        # Without an environment: no credential in it, and one thread for each library that would start many.
        environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(  # noqa: S603 - the command is ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            deadline = threading.Timer(WALL_S, child.kill)
            feeder = threading.Thread(target=_feed, args=(child.stdin, file.data))
            deadline.start()
            feeder.start()
            try:
                return child.stdout.read(most)
            finally:
                child.kill()  # it has said all it may say
                feeder.join()
                deadline.cancel()

    def _checked(self, answer: bytes) -> Decoded:
        line, _, pcm = answer.partition(b"\n")
        said = _parse(line)
        if "error" in said:
            raise refusal(str(said["error"]), self._max_duration_s)
        rate, channels, total = (said.get(name) for name in ("sample_rate", "channels", "total_samples"))
        if not (isinstance(rate, int) and isinstance(channels, int) and isinstance(total, int)):
            raise unreadable(_WHY["damaged"])
        if total < 1 or len(pcm) != total * channels * _SAMPLE_BYTES:
            raise unreadable(_WHY["damaged"])
        return Decoded(rate, channels, total, pcm)


def refusal(word: str, max_duration_s: float) -> ApiError:
    """What to raise for a decoder's word."""
    return too_long(max_duration_s) if word == "too_long" else unreadable(_WHY.get(word, _WHY["damaged"]))


def _feed(pipe: IO[bytes], data: bytes) -> None:
    try:
        with pipe:
            pipe.write(data)
    except BrokenPipeError:
        return  # it has seen enough, or is dead


def _parse(line: bytes) -> dict[str, Any]:
    """What a process said that may have been killed in the middle, or worse."""
    try:
        said = json.loads(line)
    except ValueError:
        return {"error": "damaged"}
    return said if isinstance(said, dict) else {"error": "damaged"}
