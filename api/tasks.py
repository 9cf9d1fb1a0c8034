"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Any

_CANCEL_AGAIN_AFTER_S = 1.0  # what a task does on its way out takes less, and must not be interrupted


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel these tasks and wait until each has ended; what they raised is not raised here.

    One ``cancel`` is not enough: Python 3.11's ``asyncio.wait_for`` swallows a cancellation that comes in the moment in
    which what it waits for is done, and the Redis client sends every command through it. So it is said again. A task
    that runs in circles should also look at a flag of its own, which is quicker.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_AFTER_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen, so that nothing reports it as forgotten
