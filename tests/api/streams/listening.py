"""How tests listen to events in bare ASGI, and what is true of every stream of them."""

from __future__ import annotations

import itertools

from fastapi import FastAPI

from api.generations.view import GenerationView
from tests.api.asgi import Exchange
from tests.api.streams.stage import Told, parse_sse


def listen(app: FastAPI, view: GenerationView, query: str = "", last: str | None = None) -> Exchange:
    headers = {} if last is None else {"last-event-id": last}
    path = f"/api/v1/generate/{view.id}/events{query}"
    return Exchange(app, path=path, method="GET", headers=headers).start()


async def told(app: FastAPI, view: GenerationView, query: str = "", last: str | None = None) -> list[Told]:
    """Everything, to the end."""
    exchange = listen(app, view, query, last)
    await exchange.finish()
    assert exchange.status == 200
    assert exchange.ended_well()
    return parse_sse(exchange.body)


def numbers(event: Told) -> tuple[int, ...]:
    assert event.id is not None
    return tuple(map(int, event.id.split(".")))


def check_ids(events: list[Told]) -> None:
    """Only the snapshot has none; of each number the next is not less, and one is more."""
    assert [event.name for event in events if event.id is None] == ["snapshot"]
    for before, after in itertools.pairwise(map(numbers, events[1:])):
        assert before != after
        assert all(a <= b for a, b in zip(before, after, strict=True))
