"""Samples out of a WAV stream, however it is cut into pieces and connections."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from api.cli_output import CliError
from models.types import AudioChunk

MAX_HEADER_BYTES = 4096
PCM16 = 1  # WAVE format tag


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What stands before the samples of a WAV stream.

    Attributes:
        size: bytes before the first sample.
        data_bytes: bytes of samples that were promised.
    """

    channels: int
    sample_rate: int
    size: int
    data_bytes: int

    @property
    def total_samples(self) -> int:
        return self.data_bytes // (2 * self.channels)


def parse_wav_header(start: bytes) -> WavHeader | None:
    """The header at the start of a WAV stream, or None if more bytes are needed.

    Raises:
        CliError: this is no 16-bit PCM WAV.
    """
    if len(start) >= 12 and (start[:4] != b"RIFF" or start[8:12] != b"WAVE"):
        raise bad_answer("it is not a WAV stream")
    at, channels, sample_rate = 12, 0, 0
    while len(start) >= at + 8:
        name, length = struct.unpack_from("<4sI", start, at)
        if name == b"data" and channels:
            return WavHeader(channels, sample_rate, at + 8, length)
        if name == b"fmt " and len(start) >= at + 24:
            tag, channels, sample_rate, _, _, bits = struct.unpack_from("<HHIIHH", start, at + 8)
            if tag != PCM16 or bits != 16 or channels not in (1, 2):
                raise bad_answer(f"WAV format {tag} with {bits} bits and {channels} channels is not 16-bit PCM")
        at += 8 + length + length % 2
    if len(start) > MAX_HEADER_BYTES:
        raise bad_answer("its WAV header does not end")
    return None


class WavReader:
    """Takes the bytes of one track in order and gives its samples back.

    Attributes:
        received: bytes taken so far, those of the header included: where a broken stream has to go on.
    """

    def __init__(self) -> None:
        self.received = 0
        self._header: WavHeader | None = None
        self._pending = b""
        self._sent = self._index = 0

    @property
    def is_complete(self) -> bool:
        """Every byte that the header promised has come."""
        return self._header is not None and self._sent == self._header.data_bytes

    def take(self, data: bytes) -> AudioChunk | None:
        """The whole samples that these bytes complete; None: there are none yet.

        Raises:
            CliError: this is no 16-bit PCM WAV, or it is longer than it said.
        """
        self.received += len(data)
        self._pending += data
        if self._header is None:
            self._header = parse_wav_header(self._pending)
            if self._header is None:
                return None
            self._pending = self._pending[self._header.size :]
        header = self._header
        if self.received > header.size + header.data_bytes:
            raise bad_answer("it is longer than its header says")
        whole = len(self._pending) - len(self._pending) % (2 * header.channels)
        if not whole:
            return None
        chunk = self._chunk(header, self._pending[:whole])
        self._index, self._sent, self._pending = self._index + 1, self._sent + whole, self._pending[whole:]
        return chunk

    def cut_short(self) -> CliError:
        """The error of a stream that ended here."""
        promised = f" of {self._header.data_bytes}" if self._header else ""
        return CliError(f"the stream was cut short after {self._sent}{promised} bytes of audio", "truncated")

    def _chunk(self, header: WavHeader, data: bytes) -> AudioChunk:
        samples = np.frombuffer(data, dtype="<i2").astype("<f4") / 32767.0
        return AudioChunk(
            index=self._index,
            first_sample=self._sent // (2 * header.channels),
            channels=header.channels,
            sample_rate=header.sample_rate,
            pcm=samples.astype("<f4").tobytes(),
            total_samples=header.total_samples,
            is_last=self._sent + len(data) == header.data_bytes,
        )


def bad_answer(why: str) -> CliError:
    return CliError(f"the server's answer cannot be used: {why}", "bad_answer")
