"""Ending tasks for certain, and ending what must not be left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")

_CANCEL_AGAIN_AFTER_S = 1.0  # what a task does on its way out takes less, and must not be interrupted


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel these tasks and wait until each has ended; what they raised is not raised here.

    One ``cancel`` is not enough: Python 3.11's ``asyncio.wait_for`` swallows a cancellation that comes in the moment in
    which what it waits for is done, and the Redis client and the database's pools wait through it. So it is said again.
    A task that runs in circles should also look at a flag of its own, which is quicker.

    Raises:
        asyncio.CancelledError: the caller was cancelled meanwhile; the tasks have ended all the same, so that nothing
            goes on behind the back of who gives up.
    """
    loop = asyncio.get_running_loop()
    pending = {task for task in tasks if not task.done()}
    cancel_at = loop.time()
    cancelled: asyncio.CancelledError | None = None
    while pending:
        if loop.time() >= cancel_at:
            cancel_at = loop.time() + _CANCEL_AGAIN_AFTER_S
            for task in pending:
                task.cancel()
        try:
            await asyncio.wait(pending, timeout=max(0.0, cancel_at - loop.time()))
        except asyncio.CancelledError as error:
            cancelled = error
        pending = {task for task in pending if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen, so that nothing reports it as forgotten
    if cancelled is not None:
        raise cancelled


async def to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Wait for this work until it has ended by itself, however often the caller is cancelled meanwhile.

    Such a cancellation is not lost: it comes where the caller waits next. The work must be short, since nobody can end
    it before.

    Raises:
        Exception: the work's own.
    """
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        cancel_later()
    return task.result()


def cancel_later() -> None:
    """For who has caught a cancellation of its own task: it comes again where the task waits next, or at its end."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()  # it is still the same one: who counts them, as asyncio.timeout does, must not see two
    task.cancel()
