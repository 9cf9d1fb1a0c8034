"""A running server behind the same verb as an engine: ``generate(request) -> AsyncIterator[AudioChunk]``.

The generation is accepted first and listened to then, so that a connection which breaks costs nothing: the client
comes back and goes on at the byte that it lacks. The audio is asked for as 16-bit WAV, whose header says how long the
track will be before it is made, so that a stream that was cut short cannot pass for a whole one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import httpx2

from api.cli_output import CliError, ExitCode, stderr, usage_error
from api.cli_retry import Patience, Problem
from api.cli_wav import WavReader, bad_answer
from models.types import AudioChunk, GenerationRequest

GENERATE_PATH = "/api/v1/generate"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 300.0  # a request may wait in the server's queue before its first byte
WITHDRAW_TIMEOUT_S = 10.0  # who has pressed Ctrl-C waits for no more
_GENERATION_ID = re.compile(r"[a-z0-9_]{1,64}")
_KEY = re.compile(r"[!-~]+")


class ServerGenerator:
    """Plays what ``tutti serve`` (or any server of the same API) makes.

    Args:
        url: address of the server.
        model: a model id there; None takes the server's default.
        key: an API key; None: the server knows this machine.
        transport: how bytes travel; None is the network.

    Attributes:
        model: the id that the server says it used, after the first chunk.

    Raises:
        CliError: the key can not be one; it is not repeated.
    """

    def __init__(
        self,
        url: str,
        model: str | None,
        *,
        key: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        if key is not None and not _KEY.fullmatch(key):
            raise usage_error("the API key (TUTTI_API_KEY or --key) holds what no key holds: copy it again")
        self.model = model
        self._url = url.rstrip("/")
        self._client = httpx2.AsyncClient(
            base_url=self._url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=transport,
            trust_env=False,
        )

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[AudioChunk]:
        """Make one track and play it; whoever leaves before its end cancels the generation.

        Raises:
            CliError: the server refused, cannot be reached, or its stream broke again and again.
        """
        async with self._client:
            generation_id = await self._create(request)
            reader = WavReader()
            try:
                async with aclosing(self._listen(generation_id, reader)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                if not reader.is_complete:
                    await self._cancel(generation_id)

    async def _create(self, request: GenerationRequest) -> str:
        """The id of the generation, which the server makes from now on. However often it is sent, it makes one."""
        call = _Call(_body(request, self.model), request.request_id)
        try:
            return await self._send(call)
        finally:
            if call.is_in_doubt:
                await self._withdraw(call)

    async def _send(self, call: _Call) -> str:
        patience = Patience()
        while True:
            was_in_doubt, call.is_in_doubt = call.is_in_doubt, True
            try:
                response = await self._client.post(
                    GENERATE_PATH, json=call.body, headers={"Idempotency-Key": call.idempotency_key}
                )
            except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
                call.is_in_doubt = was_in_doubt
                raise usage_error(f"--url {self._url}: {error}") from error
            except httpx2.TransportError as error:
                if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
                    call.is_in_doubt = was_in_doubt
                    if not call.has_connected:
                        message = f"cannot reach {self._url}: is tutti serve running there?"
                        raise CliError(message, "unreachable") from error
                await patience.wait(self._lost(error))
            else:
                if response.is_success:
                    call.is_in_doubt = False
                    return self._accepted(response)
                problem = Problem.of(response)
                call.is_in_doubt = was_in_doubt or not problem.is_refusal
                await patience.wait(problem)
            call.has_connected = True

    async def _withdraw(self, call: _Call) -> None:
        """Nobody waits any more for a call that the server may have accepted, though no answer came.

        Sent again under its key, it names the generation that there is, or makes it now; either way it is cancelled.
        """
        with suppress(CliError, TimeoutError):
            async with asyncio.timeout(WITHDRAW_TIMEOUT_S):
                await self._cancel(await self._send(call))
        if call.is_in_doubt:
            stderr.print(f"{self._url} could not be told to stop: it may be making the music now.", markup=False)

    def _accepted(self, response: httpx2.Response) -> str:
        try:
            made = response.json()
            generation_id, model = str(made["id"]), str(made["parameters"]["model"])
        except (ValueError, KeyError, TypeError) as error:
            raise bad_answer("it names no generation") from error
        if not _GENERATION_ID.fullmatch(generation_id):
            raise bad_answer("it names no generation")
        self.model = model
        return generation_id

    async def _listen(self, generation_id: str, reader: WavReader) -> AsyncGenerator[AudioChunk]:
        """The track to its end, over as many connections as it takes."""
        path = f"{GENERATE_PATH}/{generation_id}/audio"
        patience = Patience()
        while not reader.is_complete:
            headers = {"Range": f"bytes={reader.received}-"} if reader.received else {}
            problem = None
            try:
                async with self._client.stream("GET", path, params={"format": "wav"}, headers=headers) as response:
                    if response.is_success:
                        async with aclosing(_rest(response, reader)) as chunks:
                            async for chunk in chunks:
                                patience.restore()
                                yield chunk
                    else:
                        await response.aread()
                        problem = Problem.of(response)
            except httpx2.TransportError as error:
                problem = Problem(reader.cut_short()) if reader.received else self._lost(error)
            if not reader.is_complete:
                await patience.wait(problem or Problem(reader.cut_short()))

    async def _cancel(self, generation_id: str) -> None:
        """Nobody will listen: let the server know, if it can be told."""
        with suppress(httpx2.HTTPError):
            await self._client.post(f"{GENERATE_PATH}/{generation_id}/cancel", timeout=CONNECT_TIMEOUT_S)

    def _lost(self, error: httpx2.TransportError) -> Problem:
        reason = str(error) or type(error).__name__
        return Problem(CliError(f"the connection to {self._url} broke: {reason}", "truncated", ExitCode.FAILED))


@dataclass(slots=True)
class _Call:
    """One call for music, sent under one key until it is answered.

    Attributes:
        is_in_doubt: it may have arrived, and what became of it is not known.
        has_connected: the server was there.
    """

    body: dict[str, Any]
    idempotency_key: str
    is_in_doubt: bool = False
    has_connected: bool = False


async def _rest(response: httpx2.Response, reader: WavReader) -> AsyncGenerator[AudioChunk]:
    """What the reader lacks: a server that sends the track from its start is listened to from there on."""
    known = reader.received
    if response.status_code == 206 and not response.headers.get("content-range", "").startswith(f"bytes {known}-"):
        raise bad_answer("it is another part of the audio than was asked for")
    known = 0 if response.status_code == 206 else known
    async for data in response.aiter_bytes():
        fresh = data[known:]
        known = max(0, known - len(data))
        chunk = reader.take(fresh)
        if chunk is not None:
            yield chunk


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
