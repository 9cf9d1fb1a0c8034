"""Webhooks around a clock that tests move, a resolver that tests write, and real receivers."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import select
from structlog.typing import FilteringBoundLogger, Processor

from api.ids import new_id
from api.settings import Settings
from api.storage.vault import Vault
from api.store.database import Database
from api.store.schema import generations
from api.webhooks.deliverer import Deliverer
from api.webhooks.service import WebhookService
from tests.api.limits.rows import add_account, add_generation
from tests.api.webhooks.certificates import Authority
from tests.api.webhooks.receiver import Receiver, receiving

HOST = "hooks.example.com"


class ManualClock:
    """Stands still until it is moved. Starts at the present, since receivers refuse old timestamps."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **units: float) -> None:
        self.now += timedelta(**units)


class Names:
    """A resolver.

    Attributes:
        answers: host → its addresses, or several lists of them: one per question, the last one for ever.
        asked: the hosts it was asked for.
    """

    def __init__(self, answers: Mapping[str, Sequence[str] | Sequence[Sequence[str]]]) -> None:
        self.answers = {host: _questions(answer) for host, answer in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        left = self.answers[host]
        return left.pop(0) if len(left) > 1 else left[0]


def _questions(answer: Sequence[str] | Sequence[Sequence[str]]) -> list[list[str]]:
    lists = [[item] if isinstance(item, str) else list(item) for item in answer]
    return [[text for one in lists for text in one]] if answer and isinstance(answer[0], str) else lists


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Plain http on 127.0.0.1."""
    async with receiving() as running:
        yield running


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def settings() -> Settings:
    return Settings(webhook_allow_http=True, webhook_allow_private=True)


@pytest.fixture
def log() -> structlog.testing.LogCapture:
    return structlog.testing.LogCapture()


@pytest.fixture
def service(database: Database, clock: ManualClock, settings: Settings) -> WebhookService:
    return make_service(database, clock, settings)


def make_service(
    database: Database, clock: ManualClock, settings: Settings, master: bytes = bytes(32)
) -> WebhookService:
    """All of webhooks, as one process has it."""
    return WebhookService(database, Vault(database, {"test": master}, clock), settings, clock, resolve=Names({}))


@pytest.fixture
async def account(database: Database) -> str:
    return await add_account(database, new_id("acc"))


@pytest.fixture
def make_deliverer(service: WebhookService, log: structlog.testing.LogCapture) -> Callable[[], Deliverer]:
    """One per worker process."""

    def make() -> Deliverer:
        return service.deliverer(logger_of(log))

    return make


@pytest.fixture
def deliverer(make_deliverer: Callable[[], Deliverer]) -> Deliverer:
    return make_deliverer()


def logger_of(log: Processor) -> FilteringBoundLogger:
    filtering = structlog.make_filtering_bound_logger(0)
    bound: FilteringBoundLogger = structlog.wrap_logger(None, processors=[log], wrapper_class=filtering).bind()
    return bound


class Events:
    """Ends generations, as a worker does, and hands the events to the outbox's handler."""

    def __init__(self, database: Database, service: WebhookService, clock: ManualClock) -> None:
        self._database = database
        self._clock = clock
        self.handler = service.expander(self._render)

    async def end(self, account_id: str, state: str = "succeeded", webhook_url: str | None = None) -> dict[str, str]:
        """One generation ends; returns the outbox's payload, which was handled once."""
        async with self._database.begin() as conn:
            generation_id = await add_generation(
                conn, account_id, state=state, webhook_url=webhook_url, finished_at=self._clock()
            )
        payload = {
            "event_id": new_id("evt"),
            "type": f"generation.{state}",
            "account_id": account_id,
            "generation_id": generation_id,
        }
        await self.handler(payload)
        return payload

    async def _render(self, generation_id: str) -> Mapping[str, Any] | None:
        async with self._database.read() as conn:
            wanted = select(generations.c.id, generations.c.state).where(generations.c.id == generation_id)
            row = (await conn.execute(wanted)).one_or_none()
        return dict(row._mapping) if row is not None else None


@pytest.fixture
def events(database: Database, service: WebhookService, clock: ManualClock) -> Events:
    return Events(database, service, clock)
