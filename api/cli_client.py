"""A running server behind the same verb as an engine: ``generate(request) -> AsyncIterator[AudioChunk]``.

The audio is asked for as 16-bit WAV: its header and Content-Length say how long the track will be before it is made,
so that a stream that was cut short cannot pass for a whole one.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np

from api.cli_output import CliError, ExitCode
from models.types import AudioChunk, GenerationRequest

STREAM_PATH = "/api/v1/generate/stream"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 300.0  # a request may wait in the server's queue before its first byte
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
        raise _bad_answer("it is not a WAV stream")
    at, channels, sample_rate = 12, 0, 0
    while len(start) >= at + 8:
        name, length = struct.unpack_from("<4sI", start, at)
        if name == b"data" and channels:
            return WavHeader(channels, sample_rate, at + 8, length)
        if name == b"fmt " and len(start) >= at + 24:
            tag, channels, sample_rate, _, _, bits = struct.unpack_from("<HHIIHH", start, at + 8)
            if tag != PCM16 or bits != 16 or channels not in (1, 2):
                raise _bad_answer(f"WAV format {tag} with {bits} bits and {channels} channels is not 16-bit PCM")
        at += 8 + length + length % 2
    if len(start) > MAX_HEADER_BYTES:
        raise _bad_answer("its WAV header does not end")
    return None


class ServerGenerator:
    """Streams from ``tutti serve`` (or any server of the same API).

    Args:
        url: address of the server.
        model: a model id there; None takes the server's default.
        transport: how bytes travel; None is the network.

    Attributes:
        model: the id that the server says it used, after the first chunk.
    """

    def __init__(self, url: str, model: str | None, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.model = model
        self._url = url.rstrip("/")
        timeout = httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = httpx2.AsyncClient(base_url=self._url, timeout=timeout, transport=transport, trust_env=False)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[AudioChunk]:
        """Stream one track; closing the iterator closes the connection, which frees the server's rows.

        Raises:
            CliError: the server refused, cannot be reached, or cut the stream.
        """
        try:
            async with (
                self._client,
                self._client.stream("POST", STREAM_PATH, json=_body(request, self.model)) as response,
            ):
                if response.status_code != 200:
                    await response.aread()
                    raise _refusal(response)
                self.model = response.headers.get("x-model", self.model)
                async with aclosing(_chunks(response)) as chunks:
                    async for chunk in chunks:
                        yield chunk
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise CliError(f"--url {self._url}: {error}", "invalid_parameter", ExitCode.USAGE) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise CliError(f"cannot reach {self._url}: is tutti serve running there?", "unreachable") from error
        except httpx2.TransportError as error:
            raise CliError(f"the stream from {self._url} was cut short: {error}", "truncated") from error


async def _chunks(response: httpx2.Response) -> AsyncGenerator[AudioChunk]:
    """Whole samples as they arrive; the last chunk only if every promised byte has come."""
    pending = b""
    header: WavHeader | None = None
    sent = index = 0
    async for piece in response.aiter_bytes():
        pending += piece
        if header is None:
            header = parse_wav_header(pending)
            if header is None:
                continue
            pending = pending[header.size :]
        whole = len(pending) - len(pending) % (2 * header.channels)
        if whole:
            yield _chunk(header, index, sent, pending[:whole])
            index, sent, pending = index + 1, sent + whole, pending[whole:]
    if header is None or sent != header.data_bytes:
        promised = f" of {header.data_bytes}" if header else ""
        raise CliError(f"the stream was cut short after {sent}{promised} bytes of audio", "truncated")


def _chunk(header: WavHeader, index: int, sent: int, data: bytes) -> AudioChunk:
    samples = np.frombuffer(data, dtype="<i2").astype("<f4") / 32767.0
    return AudioChunk(
        index=index,
        first_sample=sent // (2 * header.channels),
        channels=header.channels,
        sample_rate=header.sample_rate,
        pcm=samples.astype("<f4").tobytes(),
        total_samples=header.total_samples,
        is_last=sent + len(data) == header.data_bytes,
    )


def _body(request: GenerationRequest, model: str | None) -> dict[str, Any]:
    sampling = request.sampling
    body: dict[str, Any] = {
        "prompt": request.prompt,
        "duration": request.duration_s,
        "seed": request.seed,
        "guidance": sampling.guidance,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "greedy": sampling.greedy,
        "format": "wav",
    }
    return body if model is None else {**body, "model": model}


def _refusal(response: httpx2.Response) -> CliError:
    """The server's error envelope in our words; a status alone if it sent none."""
    exit_code = ExitCode.USAGE if response.status_code in (400, 404, 406, 413, 415, 422) else ExitCode.FAILED
    try:
        error = response.json()["error"]
        return CliError(str(error["message"]), str(error["code"]), exit_code)
    except (ValueError, KeyError, TypeError):
        return CliError(f"the server answered {response.status_code} without saying why", "bad_answer", exit_code)


def _bad_answer(why: str) -> CliError:
    return CliError(f"the server's answer cannot be used: {why}", "bad_answer")
