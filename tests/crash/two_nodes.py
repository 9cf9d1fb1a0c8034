"""Two nodes, and one of them is gone at once: everything that was accepted is still made, once, and heard whole.

``python -m tests.crash.two_nodes --operations 200`` (``make two-nodes``). The Serve config goes to the cluster as an
operator gives it (``serve deploy``), with a gateway, a worker and a replica on each node; they share PostgreSQL,
a Valkey and a folder. Half of the clients are connected to each node; those of the dead one go to the other, as behind
a load balancer.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml
from sqlalchemy import func, select

from api.cache.embedded import EmbeddedValkey
from api.generations.view import LEASED
from api.store.database import Database, migrate
from api.store.schema import generations
from deployments.serve_config import DEFAULT_CONFIG
from tests.api.postgres import running_postgres
from tests.crash.clients import KINDS, Client, Observed
from tests.crash.cluster import write_config
from tests.crash.ray_nodes import RayCluster, RayNode, ray_cluster
from tests.crash.receiver import Receiver
from tests.crash.run import all_findings, tenants
from tests.deployments.conftest import free_port

_READY_S = 240.0
_POLL_S = 0.1
_LISTENING = {"events": 2, "stream": 1, "listen": 1}
_EACH_NODE = ("Gateway", "Worker", "musicgen-")


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        long: clients whose long tracks are being made when the node dies; more than one node's worker takes at once.
        long_s: seconds of audio of each, at most.
        operations: of other clients, after the node died.
    """

    long: int = 12
    long_s: float = 25.0
    operations: int = 12
    clients: int = 4
    seed: int = 0
    checkpoint: str = "tiny"


async def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """One run; the report's ``findings`` is empty if the platform kept its promises."""
    port = free_port()
    config = _config(folder, plan.checkpoint, port)
    receiver = Receiver(random.Random(plan.seed))
    with running_postgres() as postgres, EmbeddedValkey() as valkey:
        await postgres.execute("CREATE DATABASE tutti")
        url = postgres.url("tutti")
        await migrate(url)
        with ray_cluster(folder, port, _environment(folder, url, valkey.url)) as cluster:
            cluster.deploy(config)
            await _ready(cluster)
            async with receiver.listening(), _http(cluster.head) as http, _http(cluster.other) as doomed:
                return await _Run(plan, cluster, url, receiver, http, doomed).report()


@dataclass
class _Run:
    plan: Plan
    cluster: RayCluster
    database_url: str
    receiver: Receiver
    http: httpx2.AsyncClient
    doomed: httpx2.AsyncClient

    async def report(self) -> dict[str, Any]:
        observed, keys = Observed(), await tenants(self.http, self.database_url)
        listeners = [self._client(n, keys, observed, _LISTENING, self.plan.long_s) for n in range(self.plan.long)]
        gone = asyncio.Event()
        listening = [asyncio.create_task(_listen(client, gone)) for client in listeners]
        leased = await self._in_flight(observed)
        killed, began = await asyncio.to_thread(self.cluster.other.kill), time.monotonic()
        for client in listeners:
            client.http = self.http
        gone.set()
        others = [self._client(100 + n, keys, observed, KINDS, 1.0) for n in range(self.plan.clients)]
        await asyncio.gather(*listening, *(self._work(client, observed) for client in others))
        findings = await all_findings(self.http, self.database_url, keys, observed, self.receiver)
        return {
            "processes_killed": killed,
            "leased_when_killed": leased,
            "taken_over": await self._count(generations.c.attempt > 1),
            "accepted": len({each for ids in observed.accepted.values() for each in ids}),
            "operations": observed.operations,
            "seconds_after": round(time.monotonic() - began),
            "findings": findings,
        }

    def _client(
        self, number: int, keys: dict[str, str], observed: Observed, kinds: dict[str, int], longest_s: float
    ) -> Client:
        """Every other client of the long tracks is connected to the node that will die."""
        tenant = list(keys)[number // 2 % len(keys)]
        http = self.doomed if kinds is _LISTENING and number % 2 else self.http
        rng, spread = random.Random(f"{self.plan.seed} {number}"), (0.8 * longest_s, longest_s)
        return Client(http, tenant, keys[tenant], observed, rng, self.receiver.url, spread, kinds)

    async def _in_flight(self, observed: Observed) -> int:
        """Wait until both workers have leases and music is heard; returns how many are leased."""

        async def busy() -> bool:
            return await self._count_owners() == 2 and len({key[0] for key in observed.pieces}) >= 2

        await _until(busy, "both workers are at work", lambda: observed)
        return await self._count(generations.c.state.in_(LEASED))

    async def _count_owners(self) -> int:
        return await self._scalar(
            select(func.count(generations.c.lease_owner.distinct())).where(generations.c.state.in_(LEASED))
        )

    async def _count(self, condition: Any) -> int:
        return await self._scalar(select(func.count()).select_from(generations).where(condition))

    async def _scalar(self, statement: Any) -> int:
        database = Database.connect(self.database_url)
        try:
            async with database.read() as conn:
                return int((await conn.execute(statement)).scalar_one())
        finally:
            await database.close()

    async def _work(self, client: Client, observed: Observed) -> None:
        wanted = observed.operations + self.plan.operations
        while observed.operations < wanted:
            await client.operation()


async def _listen(client: Client, gone: asyncio.Event) -> None:
    """One long track after the other until the node is gone, and the last one to its end."""
    while not gone.is_set():
        await client.operation()


def _config(folder: Path, checkpoint: str, port: int) -> Path:
    """The crash harness's config with one gateway, one worker and one replica on each node."""
    path = write_config(folder, checkpoint, DEFAULT_CONFIG)
    config = yaml.safe_load(path.read_text())
    config["http_options"].update(host="127.0.0.1", port=port)
    application = config["applications"][0]
    tiny = application["args"]["models"]["tiny"]
    tiny["engine"].update(max_rows=4, num_threads=1)
    # A worker takes as many tracks as the replicas together, four: the long ones are more than one worker takes.
    tiny["deployment"].update(max_ongoing_requests=2)
    for deployment in [*application["deployments"], tiny["deployment"]]:
        deployment["max_replicas_per_node"] = 1
        deployment["autoscaling_config"].update(min_replicas=2, max_replicas=2)
    path.write_text(yaml.safe_dump(config))
    return path


def _environment(folder: Path, database_url: str, redis_url: str) -> dict[str, str]:
    return {
        "TUTTI_DATA_DIR": str(folder / "data"),
        "TUTTI_DATABASE_URL": database_url,
        "TUTTI_REDIS_URL": redis_url,
        "TUTTI_SECRET_KEY": secrets.token_urlsafe(32),
        "TUTTI_MASTER_KEYS": f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "TUTTI_WEBHOOK_ALLOW_HTTP": "1",
        "TUTTI_WEBHOOK_ALLOW_PRIVATE": "1",
    }


async def _ready(cluster: RayCluster) -> None:
    """Every part serves on both nodes."""

    async def serves() -> bool:
        running = await asyncio.to_thread(cluster.running)
        nodes = [{node for part, node in running if part.startswith(name)} for name in _EACH_NODE]
        return all(on == {cluster.head.address, cluster.other.address} for on in nodes) and all(
            [await _answers(node) for node in (cluster.head, cluster.other)]
        )

    await _until(serves, "both nodes serve", cluster.running)


async def _answers(node: RayNode) -> bool:
    async with _http(node) as http:
        try:
            return (await http.get("/health/ready")).is_success
        except httpx2.HTTPError:
            return False


async def _until(condition: Callable[[], Any], what: str, told: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _READY_S
    while not await condition():
        assert time.monotonic() < deadline, f"{what}: not within {_READY_S:g} s: {told()}"
        await asyncio.sleep(_POLL_S)


def _http(node: RayNode) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=200)
    return httpx2.AsyncClient(base_url=node.url, timeout=60, trust_env=False, limits=limits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--long", type=int, default=24, help="tracks that are being made when the node dies")
    parser.add_argument("--operations", type=int, default=200, help="of other clients, afterwards")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    plan = Plan(args.long, operations=args.operations, clients=args.clients, seed=args.seed)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(run(plan, Path(folder)))
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    raise SystemExit(1 if report["findings"] else 0)


if __name__ == "__main__":
    main()
