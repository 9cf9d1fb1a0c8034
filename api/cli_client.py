"""A running server behind the same verb as an engine of this process: ``make(order)``.

The generation is accepted first and listened to then, so that a connection which breaks costs nothing: the client
comes back and goes on at the byte that it lacks. The audio is asked for as 16-bit WAV, whose header says how long the
track will be before it is made, so that a stream that was cut short cannot pass for a whole one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx2

from api.cli_link import CONNECT_TIMEOUT_S, Link
from api.cli_order import AudioId, Order
from api.cli_output import CliError, stderr
from api.cli_retry import Patience, Problem
from api.cli_sounds import read_bytes
from api.cli_wav import WavReader, bad_answer
from models.types import AudioChunk

GENERATE_PATH = "/api/v1/generate"
WITHDRAW_TIMEOUT_S = 10.0  # who has pressed Ctrl-C waits for no more
_GENERATION_ID = re.compile(r"[a-z0-9_]{1,64}")


class ServerMaker:
    """Plays what ``tutti serve`` (or any server of the same API) makes.

    Args:
        url: address of the server.
        model: a model id there; None takes the server's default.
        key: an API key; None: the server knows this machine.
        melody_separation: what is to be taken out of a melody; None leaves it to the server.
        transport: how bytes travel; None is the network.

    Attributes:
        model: the id that the server says it used, once it has accepted.
        melody_separation: what it says it takes out of the melody then; None: there is none, or it does not say.

    Raises:
        CliError: the key can not be one; it is not repeated.
    """

    def __init__(
        self,
        url: str,
        model: str | None,
        *,
        key: str | None = None,
        melody_separation: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.model = model
        self.melody_separation = melody_separation
        self._link = Link(url, key, transport)
        self._client = self._link.client

    @asynccontextmanager
    async def make(self, order: Order) -> AsyncIterator[Sequence[AsyncGenerator[AudioChunk]]]:
        """Have the tracks made, to be played side by side; leaving before their end cancels the generation.

        Raises:
            CliError: the server refused, cannot be reached, or its stream broke again and again.
        """
        async with self._client:
            sounds = await self._sounds(order)
            body = {**_body(order, self.model), **sounds}
            if self.melody_separation is not None:
                body["melody_separation"] = self.melody_separation
            generation_id = await self._create(body, order.request.request_id)
            readers = [WavReader() for _ in range(order.num_tracks)]
            try:
                yield [self._listen(generation_id, position, reader) for position, reader in enumerate(readers)]
            finally:
                if not all(reader.is_complete for reader in readers):
                    await self._cancel(generation_id)

    async def _sounds(self, order: Order) -> dict[str, str]:
        """The ids of the audio that is referred to; files go up first."""
        found: dict[str, str] = {}
        for use, sound in order.sounds.items():
            found[use] = sound.id if isinstance(sound, AudioId) else await self._link.upload(read_bytes(use, sound))
        return found

    async def _create(self, body: dict[str, Any], key: str) -> str:
        """The id of the generation, which the server makes from now on. However often it is sent, it makes one."""
        call = _Call(body, key)
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
            except (httpx2.TransportError, httpx2.InvalidURL) as error:
                problem = self._link.trouble(error)
            else:
                self._link.has_connected = True
                if response.is_success:
                    call.is_in_doubt = False
                    return self._accepted(response)
                problem = Problem.of(response)
            call.is_in_doubt = was_in_doubt or not problem.is_refusal
            await patience.wait(problem)

    async def _withdraw(self, call: _Call) -> None:
        """Nobody waits any more for a call that the server may have accepted, though no answer came.

        Sent again under its key, it names the generation that there is, or makes it now; either way it is cancelled.
        """
        with suppress(CliError, TimeoutError):
            async with asyncio.timeout(WITHDRAW_TIMEOUT_S):
                await self._cancel(await self._send(call))
        if call.is_in_doubt:
            stderr.print(f"{self._link.url} could not be told to stop: it may be making the music now.", markup=False)

    def _accepted(self, response: httpx2.Response) -> str:
        try:
            made = response.json()
            generation_id, model = str(made["id"]), str(made["parameters"]["model"])
            self.melody_separation = (made.get("melody") or {}).get("source_separation")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise bad_answer("it names no generation") from error
        if not _GENERATION_ID.fullmatch(generation_id):
            raise bad_answer("it names no generation")
        self.model = model
        return generation_id

    async def _listen(self, generation_id: str, position: int, reader: WavReader) -> AsyncGenerator[AudioChunk]:
        """One track to its end, over as many connections as it takes."""
        path, which = f"{GENERATE_PATH}/{generation_id}/audio", {"track": str(position), "format": "wav"}
        patience = Patience()
        while not reader.is_complete:
            headers = {"Range": f"bytes={reader.received}-"} if reader.received else {}
            problem = None
            try:
                async with self._client.stream("GET", path, params=which, headers=headers) as response:
                    if response.is_success:
                        async with aclosing(_rest(response, reader)) as chunks:
                            async for chunk in chunks:
                                patience.restore()
                                yield chunk
                    else:
                        await response.aread()
                        problem = Problem.of(response)
            except httpx2.TransportError as error:
                problem = Problem(reader.cut_short()) if reader.received else self._link.trouble(error)
            if not reader.is_complete:
                await patience.wait(problem or Problem(reader.cut_short()))

    async def _cancel(self, generation_id: str) -> None:
        """Nobody will listen: let the server know, if it can be told."""
        with suppress(httpx2.HTTPError):
            await self._client.post(f"{GENERATE_PATH}/{generation_id}/cancel", timeout=CONNECT_TIMEOUT_S)


@dataclass(slots=True)
class _Call:
    """One call for music, sent under one key until it is answered.

    Attributes:
        is_in_doubt: it may have arrived, and what became of it is not known.
    """

    body: dict[str, Any]
    idempotency_key: str
    is_in_doubt: bool = False


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


def _body(order: Order, model: str | None) -> dict[str, Any]:
    """What was not asked for is left out, so that a server which knows less can make it too."""
    request, sampling = order.request, order.request.sampling
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
    if model is not None:
        body["model"] = model
    if order.num_tracks > 1:
        body["num_tracks"] = order.num_tracks
    said = {"extend_stride": order.extend_stride_s, "guidance_beta": sampling.guidance_beta, **order.style_heard}
    body |= {name: value for name, value in said.items() if value is not None}
    return body
