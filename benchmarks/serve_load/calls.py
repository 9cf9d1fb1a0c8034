"""Sends one planned request and tells what became of it: listeners, jobs, and clients that misbehave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.api.client import ConnectionLostError
from benchmarks.serve_load.course import Course, Listener
from benchmarks.serve_load.outcome import Outcome
from benchmarks.serve_load.plan import Planned
from benchmarks.serve_load.server import Server
from benchmarks.serve_load.wire import Body

STREAM_PATH = "/api/v1/generate/stream"
GENERATE_PATH = "/api/v1/generate"
LONGEST_WAIT_S = 60  # of Prefer: wait
STORM_TRIES = 5
STORM_GAP_S = 0.02
_WITHDRAW_S = 2.0
_REPEAT_AFTER_S = 0.2
_DOOR = frozenset({409, 429, 503})  # a repetition may be told to come back

Keys = Mapping[str, Sequence[str | None]]
"""Credentials of each tier's accounts; None: the server knows this machine."""


class Sender:
    """
    Args:
        timeout_s: after this long a client gives up.
    """

    def __init__(self, server: Server, keys: Keys, timeout_s: float) -> None:
        self._server = server
        self._keys = keys
        self._timeout_s = timeout_s

    async def send(self, planned: Planned, intended: float) -> Outcome:
        """From its sending to its end, whatever that is.

        Args:
            intended: when it should be sent, by ``time.perf_counter``; all its times count from there.
        """
        outcome = Outcome(planned, lag_s=time.perf_counter() - intended)
        course = Course(outcome, intended, self._key(planned))
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                await (self._duplicate(course) if planned.fault == "duplicate" else self._once(course))
        except TimeoutError:
            outcome.result, outcome.code = ("timeout", "") if limit.expired() else ("failed", "connect_timeout")
        except ConnectionLostError:
            outcome.result, outcome.code = "failed", outcome.code or "connection_lost"
        except OSError as error:
            outcome.result, outcome.code = "failed", type(error).__name__
        if not outcome.took_s:
            outcome.took_s = time.perf_counter() - intended
        if outcome.result == "timeout" and planned.mode != "stream":
            await self._withdraw(course)
        return outcome

    def _key(self, planned: Planned) -> str | None:
        keys = self._keys[planned.tier]
        return keys[planned.account % len(keys)]

    async def _once(self, course: Course) -> None:
        """A client in a storm comes back at once when it is refused, and again: it reads no Retry-After."""
        for attempt in range(STORM_TRIES + 1 if course.planned.fault == "storm" else 1):
            if attempt:
                await asyncio.sleep(STORM_GAP_S)
            course.outcome.retries = attempt
            await (self._stream(course) if course.planned.mode == "stream" else self._job(course))
            if course.outcome.result not in {"refused", "rate_limited"}:
                return

    async def _duplicate(self, course: Course) -> None:
        """The same call under the same key a moment later: there must not be two generations."""
        planned = course.planned
        course.headers["Idempotency-Key"] = f"bench-{planned.seed}-{planned.number}-{time.time_ns()}"
        again = Course(Outcome(planned), course.intended, course.key, dict(course.headers))

        async def repeat() -> None:
            await asyncio.sleep(planned.turn * _REPEAT_AFTER_S)
            try:
                if planned.mode == "stream":
                    await self._stream(again, only_head=True)
                else:
                    again.take_status(await self._server.call(self._create(again)))
            except (ConnectionLostError, OSError):
                return  # says nothing about the promise

        repeating = asyncio.create_task(repeat())
        try:
            await self._once(course)
            await repeating
        finally:
            repeating.cancel()
        course.outcome.broken = _broken(course, again)

    # --------------------------------------------------------------------------------------------------- streams
    async def _stream(self, course: Course, *, only_head: bool = False) -> None:
        planned = course.planned
        connection = await self._server.connect(is_small=planned.fault == "slow")
        listener = Listener(course, connection, only_head=only_head)
        headers = {**course.headers, "Accept": "audio/pcm"}
        body = {**_music(planned), "format": "pcm"}
        try:
            await connection.ask(self._server.request("POST", STREAM_PATH, course.key, body, headers), listener)
        except ConnectionLostError:
            if not listener.has_left:
                raise
        finally:
            connection.abort()
            listener.settle()

    # ------------------------------------------------------------------------------------------------------ jobs
    async def _job(self, course: Course) -> None:
        answer = await self._server.call(self._create(course))
        if not course.take_status(answer):
            return
        while not course.take_state(answer):
            prefer = {"Prefer": f"wait={LONGEST_WAIT_S}"}
            path = f"{GENERATE_PATH}/{course.generation_id}"
            answer = await self._asked(self._server.request("GET", path, course.key, headers=prefer))
        course.outcome.took_s = time.perf_counter() - course.intended

    def _create(self, course: Course) -> bytes:
        headers = dict(course.headers)
        if course.planned.mode == "wait":
            headers["Prefer"] = f"wait={LONGEST_WAIT_S}"
        return self._server.request("POST", GENERATE_PATH, course.key, _music(course.planned), headers)

    async def _asked(self, request: bytes) -> Body:
        """A job is there whatever becomes of a connection or of a look at it: look again until it can be seen."""
        while True:
            try:
                answer = await self._server.call(request)
            except (ConnectionLostError, OSError):
                await asyncio.sleep(0.2)
                continue
            if answer.status not in {429, 500, 502, 503, 504}:
                return answer
            await asyncio.sleep(float(answer.headers.get(b"retry-after", b"1")))

    async def _withdraw(self, course: Course) -> None:
        """Nobody waits for this job any more: it must not be in the way of others."""
        if course.generation_id is None:
            return
        request = self._server.request("POST", f"{GENERATE_PATH}/{course.generation_id}/cancel", course.key)
        try:
            async with asyncio.timeout(_WITHDRAW_S):
                await self._server.call(request)
        except (ConnectionLostError, OSError):  # a TimeoutError is an OSError
            return


def _music(planned: Planned) -> dict[str, Any]:
    body: dict[str, Any] = {"prompt": planned.prompt, "duration": planned.duration_s, "seed": planned.seed}
    return body if planned.model is None else {**body, "model": planned.model}


def _broken(course: Course, again: Course) -> str | None:
    ids = {each.generation_id for each in (course, again) if each.generation_id is not None}
    if len(ids) > 1:
        return "two generations under one Idempotency-Key"
    if again.status >= 400 and again.status not in _DOOR:
        return f"a repetition under its Idempotency-Key was answered {again.status}"
    return None
