"""One leased delivery, sent once and written down. A crash in between sends it again, with the same id."""

from __future__ import annotations

import random

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.storage.errors import StorageError
from api.store.database import Database
from api.store.schema import webhook_endpoints as endpoints
from api.webhooks.events import TEST_EVENT
from api.webhooks.keyring import Keyring
from api.webhooks.leases import Lease
from api.webhooks.record import record
from api.webhooks.sender import Outcome, Sender
from api.webhooks.signing import signed_headers


class Courier:
    """Takes deliveries where they belong.

    Args:
        rng: spreads retries.
    """

    def __init__(self, db: Database, keyring: Keyring, sender: Sender, clock: Clock, rng: random.Random) -> None:
        self._db = db
        self._keyring = keyring
        self._sender = sender
        self._clock = clock
        self._rng = rng

    async def deliver(self, lease: Lease) -> tuple[Outcome, bool]:
        """Send it and write down what came of it; False if the lease was lost meanwhile and nothing was written.

        Raises:
            StoreError: the database is away. The delivery is sent again when the lease has run out.
        """
        at = self._clock()
        outcome = await self._attempt(lease)
        async with self._db.begin() as conn:
            recorded = await record(conn, lease, outcome, at, self._clock(), self._rng)
        return outcome, recorded

    async def _attempt(self, lease: Lease) -> Outcome:
        try:
            async with self._db.read() as conn:
                if await self._switched_off(conn, lease):
                    return _unsent("the endpoint is switched off")
                secrets = await self._keyring.signing(conn, lease.account_id, lease.endpoint_id)
        except StorageError:
            secrets = []
        if not secrets:
            return _unsent("the signing secret can not be opened")
        body = lease.body.encode()
        headers = signed_headers(secrets, lease.event_id, self._clock(), body)
        return await self._sender.post(lease.url, headers, body)

    async def _switched_off(self, conn: AsyncConnection, lease: Lease) -> bool:
        """A test is sent all the same: it is how an owner finds out whether to switch the endpoint on."""
        if lease.endpoint_id is None or lease.event_type == TEST_EVENT:
            return False
        wanted = select(endpoints.c.enabled).where(endpoints.c.id == lease.endpoint_id)
        return (await conn.execute(wanted)).scalar_one_or_none() is False


def _unsent(why: str) -> Outcome:
    return Outcome(status=None, error=f"not sent: {why}", excerpt=None, duration_ms=0.0)
