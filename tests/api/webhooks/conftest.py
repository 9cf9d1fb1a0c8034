"""Webhooks around a clock that tests move, a resolver that tests write, and real receivers."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

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
