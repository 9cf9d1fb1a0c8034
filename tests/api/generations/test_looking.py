"""Looking at a generation, waiting for its end and cancelling it, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from api.auth.principal import Principal
from api.errors import ApiError, ErrorCode
from api.generations.view import State
from api.ids import new_id
from tests.api.generations.conftest import Bench

VERBS: list[Callable[[Bench, Principal, str], Any]] = [
    lambda bench, who, which: bench.service.get(who, which),
    lambda bench, who, which: bench.service.cancel(who, which),
    lambda bench, who, which: bench.service.wait(who, which, 1.0),
]


@pytest.mark.parametrize("verb", VERBS)
async def test_another_accounts_generation_is_not_there(bench: Bench, verb: Callable[..., Any]) -> None:
    owner, stranger = await bench.account(), await bench.account()
    made = await bench.create(owner)
    for who, which in ((stranger, made.id), (owner, new_id("gen"))):
        with pytest.raises(ApiError) as refused:
            await verb(bench, who, which)
        assert refused.value.code == ErrorCode.GENERATION_NOT_FOUND
    assert await bench.service.get(owner, made.id) == made


async def test_a_snapshot_asks_nobody(bench: Bench) -> None:
    made = await bench.create(await bench.account())
    assert await bench.service.snapshot(made.id) == made
    assert await bench.service.snapshot(new_id("gen")) is None


async def test_waiting_ends_with_the_generation(bench: Bench) -> None:
    gate = bench.tiny.hold(1)
    owner = await bench.account()
    made = await bench.create(owner)
    waiting = asyncio.create_task(bench.service.wait(owner, made.id, 60.0))
    async with bench.working():
        await bench.reached(1)
        assert not waiting.done()
        gate.set()
        assert (await waiting).state == State.SUCCEEDED


async def test_waiting_ends_with_its_time(bench: Bench) -> None:
    owner = await bench.account()
    made = await bench.create(owner)
    assert (await bench.service.wait(owner, made.id, 0.05)).state == State.QUEUED
    assert (await bench.service.wait(owner, made.id, 0.0)).state == State.QUEUED


async def test_a_cancel_ends_the_waiting(bench: Bench) -> None:
    owner = await bench.account()
    made = await bench.create(owner)
    waiting = asyncio.create_task(bench.service.wait(owner, made.id, 60.0))
    await asyncio.sleep(0)
    await bench.service.cancel(owner, made.id)
    assert (await waiting).state == State.CANCELLED
    assert await bench.used(owner) == 0
