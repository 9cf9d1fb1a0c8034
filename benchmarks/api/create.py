"""How many creates a second one gateway takes, and how long one waits at a rate that it can take."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.api.arrivals import closed_loop, open_loop, percentiles_ms
from benchmarks.api.client import Answer, Client, request
from benchmarks.api.platform import Running
from benchmarks.arrivals import poisson

ACCEPTED = 202


def create_request(key: str, duration_s: float) -> bytes:
    body = {"prompt": "calm piano in C major, slow, no drums", "duration": duration_s, "campaign_id": "spring"}
    return request("POST", "/api/v1/generate", key, json.dumps(body).encode())


@dataclass
class Creator:
    """Creates by one account after the other; remembers every answer."""

    running: Running
    client: Client
    duration_s: float
    answers: list[Answer] = field(default_factory=list)
    _sent: int = 0

    async def send(self, _number: int, intended: float) -> None:
        key = self.running.keys[self._sent % len(self.running.keys)]
        self._sent += 1
        self.answers.append(await self.client.call(create_request(key, self.duration_s), intended))

    def take(self) -> list[Answer]:
        answers, self.answers = self.answers, []
        return answers


async def measure_create(running: Running, seconds: float, callers: int = 16, share: float = 0.6) -> dict[str, Any]:
    """Closed loop for the most, then open loop at ``share`` of it.

    Returns:
        ``max_per_s``; ``steady``: rate, latencies from the intended time, the client's lag, CPU seconds per second.
    """
    client = Client(running.port)
    creator = Creator(running, client, duration_s=2.0)
    await closed_loop(callers, min(2.0, seconds), creator.send)  # connections, prepared statements, caches
    creator.take()
    took_s = await closed_loop(callers, seconds, creator.send)
    most = creator.take()
    max_per_s = sum(answer.status == ACCEPTED for answer in most) / took_s
    before, began = running.cpu_s(), time.perf_counter()
    await open_loop(poisson(share * max_per_s, seconds), creator.send)
    took_s, after = time.perf_counter() - began, running.cpu_s()
    steady = creator.take()
    client.close()
    return {
        "max_per_s": round(max_per_s, 1),
        "closed_loop": {"callers": callers, **percentiles_ms([answer.took_s for answer in most])},
        "steady": {
            "rate_per_s": round(len(steady) / took_s, 1),
            **percentiles_ms([answer.took_s for answer in steady]),
            "client_lag": percentiles_ms([answer.lag_s for answer in steady]),
            "cpu": {name: round((after[name] - before[name]) / took_s, 2) for name in after},
        },
        "answers": dict(Counter(str(answer.status) for answer in most + steady)),
    }
