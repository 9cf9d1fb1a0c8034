"""Tasks that do not hear a cancellation are ended all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api import tasks
from api.tasks import stop

PATIENCE_S = 10.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_CANCEL_AGAIN_AFTER_S", 0.01)


async def deaf(times: int) -> None:
    """Hears a cancellation only after it was said so many times in vain."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if times == 0:
                raise
            times -= 1


async def started(work: Any) -> asyncio.Task[Any]:
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


async def test_it_is_said_again() -> None:
    several = [await started(deaf(times)) for times in range(3)]
    async with asyncio.timeout(PATIENCE_S):
        await stop(*several)
    assert all(task.cancelled() for task in several)


async def test_what_a_task_raises_on_its_way_out_is_its_own() -> None:
    async def broken() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    task = await started(broken())
    await stop(task, task)
    assert isinstance(task.exception(), ZeroDivisionError)


async def test_who_is_stopped_while_stopping_leaves_nothing_behind() -> None:
    """Stops within stops: the outer one says it again to the inner one, which has not ended its own yet."""
    inner = await started(deaf(5))
    stopping = await started(stop(inner))
    async with asyncio.timeout(PATIENCE_S):
        await stop(stopping)
    assert (stopping.cancelled(), inner.cancelled()) == (True, True)


async def test_a_way_out_is_not_interrupted_by_who_is_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_CANCEL_AGAIN_AFTER_S", PATIENCE_S)
    leaving, gone = asyncio.Event(), asyncio.Event()

    async def tidy() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            leaving.set()
            await gone.wait()
        return "tidied up"

    task = await started(tidy())
    stopping = await started(stop(task))
    await leaving.wait()
    stopping.cancel()
    await asyncio.sleep(0)
    gone.set()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert task.result() == "tidied up"


async def test_nothing_to_stop() -> None:
    await stop()
