"""How many creates a second the database takes, and how long one waits: what ``POST /generate`` writes, no HTTP.

    python -m benchmarks.store_bench                                    # SQLite in a folder that is removed again
    python -m benchmarks.store_bench --url postgresql://user@host/empty_database

One create is one transaction: the idempotency row, the quota's counter, the generation, two tracks, one outbox row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import utc_now
from api.ids import new_id
from api.store import engines
from api.store.database import Database, migrate
from api.store.schema import accounts, generations, idempotency_keys, outbox, tracks, usage_windows


async def create(connection: AsyncConnection, account_id: str) -> str:
    """Write what one accepted call writes; returns the generation's id."""
    now = utc_now()
    generation_id = new_id("gen")
    shared = {"account_id": account_id, "model_id": "tiny", "prompt": "calm piano in C major", "created_at": now}
    generation: dict[str, Any] = {
        **shared, "id": generation_id, "request_id": new_id("req"), "state": "queued", "mode": "async", "tier": "pro",
        "duration_s": 10.0, "num_tracks": 2, "seed": 1, "sampling": {"guidance": 3.0}, "format": "wav",
        "cost_steps": 1000, "available_at": now, "expires_at": now, "deadline_at": now,
    }  # fmt: skip
    key = {"account_id": account_id, "key": new_id("key"), "request_hash": "0" * 64, "resource_id": generation_id}
    await connection.execute(insert(idempotency_keys).values(**key, created_at=now, expires_at=now + timedelta(days=1)))
    await connection.execute(
        update(usage_windows)
        .where(usage_windows.c.account_id == account_id, usage_windows.c.generations < 10**9)
        .values(generations=usage_windows.c.generations + 1)
    )
    await connection.execute(insert(generations).values(generation))
    rows = [
        {**shared, "id": new_id("trk"), "generation_id": generation_id, "position": i, "seed": i, "state": "queued"}
        for i in range(2)
    ]
    await connection.execute(insert(tracks), rows)
    event = {"kind": "webhook.event", "payload": {"generation_id": generation_id}}
    await connection.execute(insert(outbox).values(**event, created_at=now, available_at=now))
    return generation_id


async def measure(url: str, seconds: float, callers: int, tenants: int) -> dict[str, float]:
    """Creates per second by that many callers at once, the times of one in ms, and one reading beside them."""
    await migrate(url)
    db = Database.connect(url)
    names = [new_id("acc") for _ in range(tenants)]
    now = utc_now()
    async with db.begin() as connection:
        await connection.execute(insert(accounts), [{"id": name, "created_at": now} for name in names])
        windows = [{"account_id": name, "window": "hour", "starts_at": now} for name in names]
        await connection.execute(insert(usage_windows), windows)
    end = time.perf_counter() + seconds
    writes: list[float] = []
    reads: list[float] = []

    async def write(caller: int) -> None:
        while (begin := time.perf_counter()) < end:
            async with db.begin() as connection:
                await create(connection, names[caller % tenants])
            writes.append(time.perf_counter() - begin)

    async def read() -> None:
        while (begin := time.perf_counter()) < end:
            async with db.read() as connection:
                query = select(generations).where(generations.c.account_id == names[0])
                (await connection.execute(query.order_by(generations.c.created_at.desc()).limit(1))).one_or_none()
            reads.append(time.perf_counter() - begin)
            await asyncio.sleep(0.01)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(read(), *(write(caller) for caller in range(callers)))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    await db.close()
    return {
        "callers": callers,
        "creates_per_s": round(len(writes) / took, 1),
        "cpu_ms_per_create": round(1000 * cpu / len(writes), 2),
        "create_p50_ms": _percentile(writes, 0.5),
        "create_p99_ms": _percentile(writes, 0.99),
        "read_p99_ms": _percentile(reads, 0.99),
    }


def _percentile(values: list[float], share: float) -> float:
    return round(1000 * sorted(values)[int(share * (len(values) - 1))], 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="an empty database; left out: SQLite in a new folder")
    parser.add_argument("--folder", type=Path, help="where SQLite's folder is made: the disk that is measured")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--synchronous", default=engines.SYNCHRONOUS, choices=["FULL", "NORMAL"], help="of SQLite")
    given = parser.parse_args()
    engines.SYNCHRONOUS = given.synchronous
    for callers in given.callers:
        with tempfile.TemporaryDirectory(dir=given.folder and given.folder.resolve()) as folder:
            url = given.url or f"sqlite+aiosqlite:///{folder}/tutti.db"
            print(json.dumps(asyncio.run(measure(url, given.seconds, callers, tenants=8))))


if __name__ == "__main__":
    main()
