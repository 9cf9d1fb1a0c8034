"""Clients as a business would write them: every create carries a key and is repeated until it is answered.

Each operation writes down what its client was told, and nothing else: the checker compares that with the platform's
own books afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

_PATIENCE_S = 240.0  # one operation, however often the platform dies under it
_PAUSE_S = 0.25
_TERMINAL = ("succeeded", "failed", "cancelled", "expired")
KINDS = {"create": 3, "repeat": 2, "cancel": 2, "events": 3, "stream": 2, "listen": 2}
_PROMPTS = ("calm piano", "fast synth with drums", "soft strings in A minor", "bells, slow")


@dataclass
class Observed:
    """What the clients were told.

    Attributes:
        accepted: idempotency key → ids that came back for it.
        accounts: generation id → the tenant that made it.
        terminal: generation id → terminal states that were seen, in order.
        pieces: (generation, track, index) → the different bytes that came for it.
        streams: generation id → the whole bodies of ``/generate/stream``.
        bodies: generation id → whole WAV bodies read while the track was being made.
        problems: what no client should ever see.
    """

    accepted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    accounts: dict[str, str] = field(default_factory=dict)
    terminal: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pieces: dict[tuple[str, int, int], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    bodies: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)
    operations: int = 0
    refused: int = 0

    def saw(self, generation: dict[str, Any]) -> str:
        state = str(generation["state"])
        if state in _TERMINAL:
            self.terminal[generation["id"]].append(state)
        return state


@dataclass
class Client:
    """One tenant's traffic.

    Args:
        duration_s: seconds of audio of a track, shortest and longest.
        kinds: operation → how often it is chosen.
    """

    http: httpx2.AsyncClient
    tenant: str
    api_key: str
    observed: Observed
    rng: random.Random
    webhook_url: str
    duration_s: tuple[float, float] = (0.3, 1.5)
    kinds: Mapping[str, int] = field(default_factory=lambda: KINDS)

    async def operation(self) -> None:
        """One operation of a random kind; counted when its client has had its answer."""
        kind = self.rng.choices(list(self.kinds), list(self.kinds.values()))[0]
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await getattr(self, f"_{kind}")()
        except TimeoutError:
            self.observed.problems.append(f"{kind}: no answer within {_PATIENCE_S:g} s")
        self.observed.operations += 1

    # ------------------------------------------------------------------------------------ operations
    async def _create(self) -> str | None:
        return await self._accepted(uuid.uuid4().hex, self._body())

    async def _repeat(self) -> None:
        """The same key again and again, as after lost answers; at once and later."""
        key, body = uuid.uuid4().hex, self._body()
        await asyncio.gather(*(self._accepted(key, body) for _ in range(3)))
        await self._accepted(key, body)

    async def _cancel(self) -> None:
        generation_id = await self._create()
        if generation_id is None:
            return
        await asyncio.sleep(self.rng.uniform(0, 1))
        async for response in self._until_answered("POST", f"/api/v1/generate/{generation_id}/cancel"):
            self.observed.saw(response.json())
        await self._finished(generation_id)

    async def _events(self) -> None:
        """Listen to the events with audio, coming back with the last id whenever the line breaks."""
        generation_id = await self._create()
        if generation_id is None:
            return
        last_id, done = "", False
        while not done:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                async for event in self._sse(f"/api/v1/generate/{generation_id}/events?audio=true", headers):
                    last_id = self._heard(generation_id, event, last_id)
                    done = event["event"] in ("done", "end")
            except httpx2.HTTPError:
                await asyncio.sleep(_PAUSE_S)

    async def _stream(self) -> None:
        """One call, audio back. A line that breaks is no answer: the same key gets the same generation."""
        key, body = uuid.uuid4().hex, {**self._body(), "format": "wav"}
        while True:
            try:
                response = await self.http.post("/api/v1/generate/stream", json=body, headers=self._headers(key))
            except httpx2.HTTPError:
                await asyncio.sleep(_PAUSE_S)
                continue
            if response.status_code == 200:
                generation_id = response.headers["x-generation-id"]
                self._accept(key, generation_id)
                self.observed.bodies[generation_id].append(response.content)
                return
            if not await self._may_retry(response):
                return

    async def _listen(self) -> None:
        """Audio while it is being made, from the beginning until one whole body came."""
        generation_id = await self._create()
        if generation_id is None:
            return
        path = f"/api/v1/generate/{generation_id}/audio?format=wav"
        async for response in self._until_answered("GET", path):
            if response.status_code == 200:
                self.observed.bodies[generation_id].append(response.content)

    # --------------------------------------------------------------------------------------- helpers
    def _body(self) -> dict[str, Any]:
        return {
            "prompt": self.rng.choice(_PROMPTS),
            "duration": round(self.rng.uniform(*self.duration_s), 2),
            "seed": self.rng.randrange(1000),
            "webhook_url": self.webhook_url,
        }

    def _headers(self, key: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} | ({"Idempotency-Key": key} if key else {})

    def _accept(self, key: str, generation_id: str) -> None:
        self.observed.accepted[key].add(generation_id)
        self.observed.accounts[generation_id] = self.tenant

    async def _accepted(self, key: str, body: dict[str, Any]) -> str | None:
        """POST until it is answered; None if it was refused for good."""
        async for response in self._until_answered("POST", "/api/v1/generate", json=body, key=key):
            if response.status_code == 202:
                generation_id = str(response.json()["id"])
                self._accept(key, generation_id)
                return generation_id
        return None

    async def _finished(self, generation_id: str) -> None:
        while True:
            async for response in self._until_answered("GET", f"/api/v1/generate/{generation_id}"):
                if self.observed.saw(response.json()) in _TERMINAL:
                    return
            await asyncio.sleep(_PAUSE_S)

    async def _until_answered(
        self, method: str, path: str, *, json: Any = None, key: str | None = None
    ) -> AsyncIterator[httpx2.Response]:
        """The first answer that is not "come again"; yields it once, or nothing if it was a refusal for good."""
        while True:
            try:
                response = await self.http.request(method, path, json=json, headers=self._headers(key))
            except httpx2.HTTPError:
                await asyncio.sleep(_PAUSE_S)
                continue
            if response.is_success:
                yield response
                return
            if not await self._may_retry(response):
                return

    async def _may_retry(self, response: httpx2.Response) -> bool:
        """Wait as the answer says, if it says that the same request may succeed later."""
        try:
            error = response.json()["error"]
        except (ValueError, KeyError):
            self.observed.problems.append(f"{response.status_code} without an envelope: {response.text[:200]}")
            return False
        if error["retryable"]:
            await asyncio.sleep(min(2.0, float(response.headers.get("Retry-After", _PAUSE_S))))
            return True
        if response.status_code >= 500:
            self.observed.problems.append(f"{response.status_code} {error['code']} {error['message']}")
        self.observed.refused += 1
        return False

    async def _sse(self, path: str, headers: dict[str, str]) -> AsyncIterator[dict[str, str]]:
        async with self.http.stream("GET", path, headers={**self._headers(), **headers}) as response:
            if response.status_code == 204:  # the last event that came was the end
                yield {"event": "end", "data": "{}"}
                return
            if response.status_code != 200:
                await response.aread()
                if not await self._may_retry(response):
                    raise AssertionError(f"events answered {response.status_code}")
                return
            event: dict[str, str] = {}
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                if name in ("id", "event", "data"):
                    event[name] = value
                elif not line and "event" in event:
                    yield event
                    event = {}

    def _heard(self, generation_id: str, event: dict[str, str], last_id: str) -> str:
        """Write an event down; returns the newest resume id."""
        data = json.loads(event["data"])
        if event["event"] in ("snapshot", "state", "done"):
            self.observed.saw(data)
        if event["event"] == "audio":
            place = (generation_id, data["track"], data["index"])
            self.observed.pieces[place].add(base64.b64decode(data["data"]))
        new_id = event.get("id", last_id)
        if last_id and event["event"] != "snapshot" and not _is_after(new_id, last_id):
            self.observed.problems.append(f"{generation_id}: event id {new_id} does not come after {last_id}")
        return new_id


def _is_after(new: str, old: str) -> bool:
    """Resume ids are vectors: no part goes back, one goes on."""
    left, right = [int(part) for part in new.split(".")], [int(part) for part in old.split(".")]
    return left != right and all(a >= b for a, b in zip(left, right, strict=True))
