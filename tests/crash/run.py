"""The crash harness: clients work, parts of the platform die at random, and afterwards the books must agree.

``python -m tests.crash.run --operations 1000 --faults 50`` (``make crash``) prints a report and ends with 1 if anything
was lost, made twice, or told differently to two listeners. One seed gives one sequence of operations and faults; what
they meet on the way is up to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import update

from api.store.database import Database
from api.store.schema import accounts
from deployments.serve_config import DEFAULT_CONFIG
from tests.crash import checker
from tests.crash.clients import Client, Observed
from tests.crash.cluster import running, write_config
from tests.crash.faults import WEIGHTS, Saboteur
from tests.crash.receiver import Receiver

_SETTLE_S = 180.0
_POLL_S = 0.5


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        operations: of all clients together.
        clients: at once, half of them for each of two tenants.
        faults: injected while the clients work; if they are done sooner, they go on until the faults are.
    """

    operations: int
    faults: int
    clients: int = 8
    seed: int = 0
    gap_s: tuple[float, float] = (1.0, 4.0)
    kinds: tuple[str, ...] = tuple(WEIGHTS)
    checkpoint: str = "tiny"


async def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """One run; the report's ``findings`` is empty if the platform kept its promises."""
    rng = random.Random(plan.seed)
    config = write_config(folder, plan.checkpoint, DEFAULT_CONFIG)
    environment = {"TUTTI_WEBHOOK_ALLOW_HTTP": "1", "TUTTI_WEBHOOK_ALLOW_PRIVATE": "1"}
    receiver = Receiver(random.Random(plan.seed + 1))
    with running(folder, config, **environment) as cluster:
        async with (
            receiver.listening(),
            httpx2.AsyncClient(
                base_url=cluster.url, timeout=60, trust_env=False, limits=httpx2.Limits(max_connections=200)
            ) as http,
        ):
            keys = await tenants(http, cluster.database_url)
            observed, saboteur = Observed(), Saboteur(cluster, rng, plan.gap_s, plan.kinds)
            began = time.monotonic()
            await _work(plan, http, keys, observed, saboteur, receiver)
            worked_s = time.monotonic() - began
            findings = await all_findings(http, cluster.database_url, keys, observed, receiver)
    return {
        "operations": observed.operations,
        "accepted": len({each for ids in observed.accepted.values() for each in ids}),
        "refused": observed.refused,
        "faults": dict(saboteur.done),
        "seconds": round(worked_s),
        "findings": findings,
    }


async def tenants(http: httpx2.AsyncClient, database_url: str) -> dict[str, str]:
    """Two accounts of the largest tier, registered as anybody would: account id → API key."""
    keys = {}
    for number in range(2):
        login = {"email": f"tenant{number}@example.com", "password": f"a long password, number {number}"}
        grant = (await http.post("/api/v1/auth/register", json=login)).raise_for_status().json()
        account_id = grant["account_id"]
        database = Database.connect(database_url)
        async with database.begin() as conn:
            await conn.execute(update(accounts).where(accounts.c.id == account_id).values(tier="enterprise"))
        await database.close()
        session = {"Authorization": f"Bearer {grant['access_token']}"}
        made = await http.post("/api/v1/user/api-keys", json={"name": "crash"}, headers=session)
        keys[account_id] = made.raise_for_status().json()["key"]
    return keys


async def _work(
    plan: Plan,
    http: httpx2.AsyncClient,
    keys: dict[str, str],
    observed: Observed,
    saboteur: Saboteur,
    receiver: Receiver,
) -> None:
    sabotage = asyncio.create_task(saboteur.run(plan.faults))

    async def work(number: int) -> None:
        tenant = list(keys)[number % len(keys)]
        rng = random.Random(f"{plan.seed} {number}")
        client = Client(http, tenant, keys[tenant], observed, rng, receiver.url)
        while observed.operations < plan.operations or not sabotage.done():
            await client.operation()
            if observed.operations % 50 == 0:
                sys.stderr.write(f"{observed.operations} operations, {saboteur.done.total()} faults\n")

    await asyncio.gather(*(work(number) for number in range(plan.clients)))
    await sabotage


async def all_findings(
    http: httpx2.AsyncClient, database_url: str, keys: dict[str, str], observed: Observed, receiver: Receiver
) -> list[str]:
    """Wait until everything has come to an end and was told, then compare; empty: every promise was kept."""
    database = Database.connect(database_url)
    deadline = time.monotonic() + _SETTLE_S
    while True:
        made, parts, used = await checker.read_books(database)
        open_ends = [row for row in made if row["state"] not in checker.TERMINAL] + checker.webhooks_came(
            made, receiver
        )
        if not open_ends or time.monotonic() > deadline:
            break
        await asyncio.sleep(_POLL_S)
    await database.close()
    return [
        *observed.problems,
        *checker.accepted_is_kept(observed, made),
        *checker.ends_are_final(observed, made),
        *checker.quota_adds_up(made, used),
        *checker.webhooks_came(made, receiver),
        *await checker.audio_is_whole(http, keys, observed, parts),
        *await checker.tenants_are_apart(http, keys, made),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(run(Plan(args.operations, args.faults, args.clients, args.seed), Path(folder)))
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    raise SystemExit(1 if report["findings"] else 0)


if __name__ == "__main__":
    main()
