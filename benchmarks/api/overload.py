"""Three times as much as can be done: is the refusal quick and its advice true, and is as much done as at the peak."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from api.clock import utc_now
from api.store.schema import generations
from benchmarks.api.arrivals import open_loop, percentiles_ms
from benchmarks.api.client import Answer, Client
from benchmarks.api.create import ACCEPTED, create_request
from benchmarks.api.platform import Running
from benchmarks.arrivals import poisson

REFUSED = 503
QUICK_S = 0.050
OBEDIENT_EVERY = 10  # one caller in so many comes back when it was told to
_GRACE_S = 30.0


@dataclass
class Crowd:
    """Independent callers. One in ten comes back after Retry-After; the others go away.

    Attributes:
        answers: to first calls.
        comebacks: how often each obedient caller that was refused came back until it was let in; None: never was.
    """

    running: Running
    client: Client
    duration_s: float
    answers: list[Answer] = field(default_factory=list)
    comebacks: list[int | None] = field(default_factory=list)
    advised_s: list[float] = field(default_factory=list)

    async def send(self, number: int, intended: float) -> None:
        data = create_request(self.running.keys[number % len(self.running.keys)], self.duration_s)
        answer = await self.client.call(data, intended)
        self.answers.append(answer)
        if answer.status == REFUSED:
            self.advised_s.append(answer.retry_after_s)
            if number % OBEDIENT_EVERY == 0:
                self.comebacks.append(await self._come_back(data, answer))

    async def _come_back(self, data: bytes, answer: Answer) -> int | None:
        until, times = time.perf_counter() + _GRACE_S, 0
        while answer.status == REFUSED and time.perf_counter() < until:
            await asyncio.sleep(answer.retry_after_s)
            answer = await self.client.call(data)
            times += 1
        return times if answer.status == ACCEPTED else None


async def measure_overload(
    running: Running, seconds: float, *, nominal_per_s: float, duration_s: float, rate_per_s: float | None = None
) -> dict[str, Any]:
    """First a little more than the generators can make, for the peak; then three times the peak.

    Args:
        nominal_per_s: generations per second that the generators' pace allows.
        rate_per_s: offered instead of three times the peak.
    """
    client = Client(running.port)
    warm_s = min(5.0, seconds)
    await open_loop(poisson(1.3 * nominal_per_s, warm_s), Crowd(running, client, duration_s).send)
    peak = await _phase(running, client, 1.3 * nominal_per_s, max(seconds / 2, 1.0), duration_s)
    # In a phase of a second, on a busy machine, nothing may have ended.
    offered_per_s = rate_per_s or 3 * (peak["goodput_per_s"] or nominal_per_s)
    over = await _phase(running, client, offered_per_s, seconds, duration_s)
    client.close()
    return {
        "peak": peak,
        "overload": over,
        "goodput_of_peak": round(over["goodput_per_s"] / max(peak["goodput_per_s"], 1e-9), 3),
        "offered_of_peak": round(over["offered_per_s"] / max(peak["goodput_per_s"], 1e-9), 2),
    }


async def _phase(
    running: Running, client: Client, rate_per_s: float, seconds: float, duration_s: float
) -> dict[str, Any]:
    crowd = Crowd(running, client, duration_s)
    memory: list[float] = []
    watching = asyncio.create_task(_watch(running, memory))
    cpu, began, began_at = running.cpu_s(), time.perf_counter(), utc_now()
    loading = asyncio.create_task(open_loop(poisson(rate_per_s, seconds, seed=1), crowd.send))
    await asyncio.sleep(seconds)
    # Up to here it was offered; who was told to come back later may still do so.
    took_s, used, ended_at = time.perf_counter() - began, running.cpu_s(), utc_now()
    watching.cancel()
    await loading
    refused = [answer for answer in crowd.answers if answer.status == REFUSED]
    accepted = [answer for answer in crowd.answers if answer.status == ACCEPTED]
    return {
        "offered_per_s": round(len(crowd.answers) / seconds, 1),
        "goodput_per_s": round(await _succeeded(running, began_at, ended_at) / took_s, 2),
        "answers": dict(Counter(str(answer.status) for answer in crowd.answers)),
        "refusals": {
            **percentiles_ms([answer.took_s for answer in refused]),
            "within_50_ms": _share(sum(answer.took_s <= QUICK_S for answer in refused), len(refused)),
        },
        "accepts": percentiles_ms([answer.took_s for answer in accepted]),
        "client_lag": percentiles_ms([answer.lag_s for answer in crowd.answers]),
        "retry_after": _advice(crowd),
        "rss_mb": {"first": round(memory[0], 1), "last": round(memory[-1], 1), "most": round(max(memory), 1)},
        "cpu": {name: round((used[name] - cpu[name]) / took_s, 2) for name in used},
    }


def _advice(crowd: Crowd) -> dict[str, Any]:
    let_in = [times for times in crowd.comebacks if times is not None]
    return {
        "seconds": [min(crowd.advised_s, default=0.0), max(crowd.advised_s, default=0.0)],
        "obeyed": len(crowd.comebacks),
        "let_in": _share(len(let_in), len(crowd.comebacks)),
        "at_first_return": _share(sum(times == 1 for times in let_in), len(crowd.comebacks)),
        "most_returns": max(let_in, default=0),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


async def _watch(running: Running, memory: list[float]) -> None:
    while True:
        memory.append(running.rss_mb())
        await asyncio.sleep(0.5)


async def _succeeded(running: Running, since: datetime, until: datetime) -> int:
    table = generations.c
    ended = select(func.count()).where(
        table.state == "succeeded", table.finished_at >= since, table.finished_at < until
    )
    async with running.db.read() as conn:
        return int(await conn.scalar(ended) or 0)
