"""Tasks that do not hear a cancellation are ended all the same; what must not be left half done is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api import tasks
from api.tasks import stop, to_the_end

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


async def test_what_must_not_be_left_half_done_is_not_and_the_cancellation_comes_afterwards() -> None:
    begun, go_on, seen = asyncio.Event(), asyncio.Event(), []

    async def work() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async def caller() -> None:
        seen.append(await to_the_end(work()))
        await asyncio.Event().wait()

    calling = asyncio.create_task(caller())
    await begun.wait()
    for _ in range(3):
        calling.cancel()
        await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(asyncio.CancelledError):
            await calling
    assert seen == ["done"]


async def test_a_time_that_is_up_meanwhile_is_still_told_as_such() -> None:
    over = asyncio.Event()

    async def caller() -> None:
        async with asyncio.timeout(0) as limit:
            asyncio.get_running_loop().call_later(0.01, over.set)
            await to_the_end(over.wait())
            assert limit.expired()
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await caller()


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await to_the_end(work())
