"""How calls are sent: open loop on a schedule that waits for nobody, or closed loop as fast as answers come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import numpy as np

Send = Callable[[int, float], Awaitable[None]]
MAX_LAG_S = 0.010
"""A client that is later than this with one call in a hundred measures itself: the run says so."""


async def open_loop(schedule: Iterable[float], send: Send, began: float | None = None) -> None:
    """Send each call at its time, whether or not earlier ones were answered; returns when all are.

    Args:
        schedule: seconds from the start, ascending.
        send: gets the call's number and its intended time by ``time.perf_counter``.
        began: the start, by the same clock, which all processes of a machine share; None: now.
    """
    began = time.perf_counter() if began is None else began
    async with asyncio.TaskGroup() as group:
        for number, at in enumerate(schedule):
            if (left := began + at - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            group.create_task(_as_coroutine(send, number, began + at))


async def closed_loop(callers: int, seconds: float, send: Send) -> float:
    """As many callers, each with one call after the other; returns how long it took."""
    began = time.perf_counter()

    async def caller(number: int) -> None:
        while time.perf_counter() < began + seconds:
            await send(number, time.perf_counter())

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(caller(number))
    return time.perf_counter() - began


async def _as_coroutine(send: Send, number: int, intended: float) -> None:
    await send(number, intended)


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the largest, in milliseconds; empty of nothing."""
    if not seconds:
        return {}
    values = 1000 * np.asarray(seconds)
    found = {"p50_ms": np.percentile(values, 50), "p99_ms": np.percentile(values, 99), "max_ms": values.max()}
    return {name: round(float(value), 1) for name, value in found.items()}
