"""Is everything there that this server depends on? Asked all at once, none for longer than the settings allow.

The answers are kept for a second: anybody may ask, and a question costs a round trip to each dependency.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, cast

from fastapi import Depends
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import HTTPConnection

from api.backend import Backend
from api.generations.backlog_sql import FRESH
from api.services import Services
from api.store.database import check
from api.store.schema import workers
from models.errors import TuttiError

KEPT_S = 1.0
START_S = 30.0
"""As long as workers may take to sign on beside a gateway that has just started: Ray starts one after the other."""
NOT_YET = "no worker has signed on since this gateway started, a moment ago: what is accepted meanwhile waits for one"
NONE = f"no worker has been seen for {FRESH.total_seconds():g} seconds: what is accepted waits until one is there"
SEE_LOG = "does not answer as it should: the server's log says why"


@dataclass(frozen=True, slots=True)
class ModelState:
    """
    Attributes:
        ready: True, or why a request would not be served now.
        replicas: loaded and serving.
    """

    ready: bool | str
    replicas: int


@dataclass(frozen=True, slots=True)
class Found:
    """One round of questions.

    Attributes:
        models: model id → its state.
        stores: "database" and "storage" → True, or what is wrong; without them nothing is accepted.
        helpers: "cache" and "workers" → the same; without them what is accepted waits.
    """

    models: Mapping[str, ModelState]
    stores: Mapping[str, bool | str]
    helpers: Mapping[str, bool | str]


class Readiness:
    """One per application, made when it starts."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._began_at = services.clock()
        self._missing: set[str] = set()
        self._asking: asyncio.Task[Found] | None = None
        self._asked_at = float("-inf")

    async def found(self) -> Found:
        """The latest answers; whoever asks meanwhile waits for the same round."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now - self._asked_at > KEPT_S):
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask_everybody())
        return await asyncio.shield(self._asking)

    async def _ask_everybody(self) -> Found:
        services = self._services
        models, *others = await asyncio.gather(
            asyncio.gather(*(self._model(backend) for backend in services.backends.values())),
            self._told("database", check(services.db)),
            self._told("storage", services.objects.check()),
            self._told("cache", services.cache.check()),
            self._workers(),
        )
        database, storage, cache, workers = others
        return Found(
            models=dict(zip(services.backends, models, strict=True)),
            stores={"database": database, "storage": storage},
            helpers={"cache": cache, "workers": workers},
        )

    async def _model(self, backend: Backend) -> ModelState:
        ready = await self._answer(backend.ready())
        return ModelState(ready=ready, replicas=await backend.replicas() if ready is True else 0)

    async def _workers(self) -> bool | str:
        """Whether any is alive. How fast they are, which they know only after their first track, is not asked."""
        answer = await self._answer(self._workers_seen())
        if answer != NONE:
            return self._told_of("workers", answer)
        if self._services.clock() - self._began_at < timedelta(seconds=START_S):
            return NOT_YET
        self._told_of("workers", NONE)
        return NONE

    async def _workers_seen(self) -> bool | str:
        seen = select(func.count()).where(workers.c.seen_at >= self._services.clock() - FRESH)
        try:
            async with self._services.db.read() as conn:
                return bool(await conn.scalar(seen)) or NONE
        except SQLAlchemyError as error:
            return str(error)

    async def _told(self, name: str, question: Awaitable[bool | str]) -> bool | str:
        return self._told_of(name, await self._answer(question))

    def _told_of(self, name: str, answer: bool | str) -> bool | str:
        """What anybody may know: addresses and the like stay in the log, which hears of each change once."""
        log = self._services.log
        if answer is True:
            if name in self._missing:
                self._missing.discard(name)
                log.info("ready_again", dependency=name)
            return True
        if name not in self._missing:
            self._missing.add(name)
            log.warning("not_ready", dependency=name, reason=answer)
        return f"{name} {SEE_LOG}"

    async def _answer(self, question: Awaitable[bool | str]) -> bool | str:
        timeout_s = self._services.settings.ready_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                answer = await question
        except TimeoutError:
            return f"no answer within {timeout_s:g} s"
        except TuttiError as error:
            return str(error)
        return answer or "not ready"


async def _of(connection: HTTPConnection) -> Readiness:
    return cast(Readiness, connection.app.state.readiness)


Asked = Annotated[Readiness, Depends(_of)]
