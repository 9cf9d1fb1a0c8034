"""One generation, many listeners on one gateway: does each get all of it, how late is the last, what does one cost."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import numpy as np

from benchmarks.api.arrivals import percentiles_ms
from benchmarks.api.client import HOST, Client, request
from benchmarks.api.create import ACCEPTED, create_request
from benchmarks.api.listener import Listener
from benchmarks.api.paced import CHUNK_S
from benchmarks.api.platform import Running

CONNECTING = 32  # at once
KEPT = 3  # listeners whose bytes are compared with the stored track
_BLOCKER_S = 600.0
_START_S = 30.0


async def measure_fanout(running: Running, listeners: int, duration_s: float) -> dict[str, Any]:
    """Everybody is there before the first piece is made: a generation ahead of it holds the only slot until then.

    Returns:
        ``delivered``: share of the pieces of all listeners that came, in order; ``lag``: behind the first listener, of
        every delivery; ``spread``: between the first listener and the last, of every piece.
    """
    client, key = Client(running.port), running.keys[0]
    blocker = await _create(client, key, _BLOCKER_S)
    await _until_running(client, key, blocker)
    subject = await _create(client, key, duration_s)
    before_mb = running.rss_mb()
    crowd = await _gather_crowd(running.port, subject, key, listeners)
    gathered_mb = running.rss_mb()
    cpu, began = running.cpu_s(), time.perf_counter()
    await client.call(request("POST", f"/api/v1/generate/{blocker}/cancel", key))
    ends = asyncio.gather(*(listener.done for listener in crowd))
    peak_mb = await _peak_mb(running, ends)
    took_s, used = time.perf_counter() - began, running.cpu_s()
    whole = await ends
    stored = await client.call(request("GET", f"/api/v1/generate/{subject}/audio?format=pcm", key))
    client.close()
    pieces = math.ceil(duration_s / CHUNK_S)
    return {
        "listeners": listeners,
        "delivered": sum(len(one.times) for one in crowd) / (pieces * listeners),
        "ended_well": sum(whole),
        "problems": [problem for one in crowd for problem in one.problems][:5],
        "same_bytes": all(one.audio() == stored.body for one in crowd[:KEPT]),
        **_lags(crowd, pieces),
        "rss_kb_per_listener": {
            "waiting": round(1024 * (gathered_mb - before_mb) / listeners, 1),
            "playing": round(1024 * (peak_mb - before_mb) / listeners, 1),
        },
        "cpu": {name: round((used[name] - cpu[name]) / took_s, 2) for name in used},
        "took_s": round(took_s, 1),
    }


async def _create(client: Client, key: str, duration_s: float) -> str:
    answer = await client.call(create_request(key, duration_s))
    if answer.status != ACCEPTED:
        raise RuntimeError(f"a create was answered {answer.status}: {answer.body!r}")
    return str(answer.json()["id"])


async def _until_running(client: Client, key: str, generation_id: str) -> None:
    """Otherwise the shorter one, whose deadline is earlier, would be taken first."""
    async with asyncio.timeout(_START_S):
        data = request("GET", f"/api/v1/generate/{generation_id}", key)
        while True:
            if (await client.call(data)).json()["state"] != "queued":
                return
            await asyncio.sleep(0.05)


async def _gather_crowd(port: int, generation_id: str, key: str, count: int) -> list[Listener]:
    data = request("GET", f"/api/v1/generate/{generation_id}/events?audio=true", key)
    loop, turns = asyncio.get_running_loop(), asyncio.Semaphore(CONNECTING)

    async def one(number: int) -> Listener:
        async with turns:
            _, listener = await loop.create_connection(lambda: Listener(data, keep=number < KEPT), HOST, port)
            await listener.opened
        return listener

    return await asyncio.gather(*(one(number) for number in range(count)))


async def _peak_mb(running: Running, ends: asyncio.Future[Any]) -> float:
    peak = running.rss_mb()
    while not ends.done():
        await asyncio.wait({ends}, timeout=0.25)
        peak = max(peak, running.rss_mb())
    return peak


def _lags(crowd: list[Listener], pieces: int) -> dict[str, Any]:
    times = np.array([[one.times.get(number, np.nan) for number in range(1, pieces + 1)] for one in crowd])
    behind = times - np.nanmin(times, axis=0)
    return {"lag": percentiles_ms(behind[~np.isnan(behind)].tolist()), "spread": percentiles_ms(
        np.nanmax(behind, axis=0).tolist()
    )}  # fmt: skip
