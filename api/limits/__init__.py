"""What an account may use, how fast, and when the system is full.

``quota``, ``concurrency`` and ``idempotency`` are functions on the caller's transaction. What has a state of its own,
one per process, is in ``Limits``.

Before the transaction that accepts a call: ``backlogs.refresh`` and, without a key, ``admission.check_early``. In it:
``idempotency.claim`` (and stop at a replay), ``concurrency.check``, ``admission.check``, ``quota.reserve``, the
inserts, ``idempotency.complete``. Any error rolls all of it back.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from api.cache.client import Cache
from api.clock import Clock
from api.generations.outlook import Backlogs, Outlook, Subject, outlook
from api.generations.starts import Starts
from api.limits import idempotency, quota
from api.limits.admission import Admission, Newcomer
from api.limits.concurrency import ACTIVE
from api.limits.door import Undecided
from api.limits.rates import Rates
from api.limits.tiers import Tier, Tiers
from api.settings import Settings

__all__ = ["Limits", "Newcomer"]


class Limits:
    """The limits of one process.

    Attributes:
        tiers: what each tier may do.
        rates: requests, logins, uploads per time.
        backlogs: the outstanding work, as last seen.
        admission: whether there is room for more of it.
        starts: when models that sleep will be awake, and which replicas start.
        undecided: creates that this process has not answered yet.

    Raises:
        TiersError: the tiers file cannot be used.
    """

    def __init__(self, settings: Settings, cache: Cache, clock: Clock) -> None:
        self.tiers = Tiers.load(settings.tiers_file)
        self.rates = Rates(cache, self.tiers)
        self.starts = Starts(cache, clock)
        self.backlogs = Backlogs(self.starts.starting)
        self.undecided = Undecided()
        self.admission = Admission(self.tiers, self.backlogs, clock)
        self._clock = clock

    def tier(self, name: str) -> Tier:
        """The tier of that name.

        Raises:
            TiersError: there is none.
        """
        return self.tiers[name]

    async def outlook(self, conn: AsyncConnection, subject: Subject) -> Outlook:
        """Place in the line and seconds to the end of a generation. One that has ended costs no query."""
        if subject.state not in ACTIVE:
            return Outlook()
        now = self._clock()
        await self.starts.refresh()
        backlog = await self.backlogs.get(conn, now)
        return await outlook(conn, subject, backlog, self.tiers.rules, now, self.starts.of(subject.model_id))

    async def purge(self, conn: AsyncConnection) -> int:
        """Remove expired idempotency keys and old usage windows; says how many. Once an hour is enough."""
        now = self._clock()
        return await idempotency.purge(conn, now) + await quota.purge(conn, now)

    async def close(self) -> None:
        """Close the connections of the counters; may be called more than once."""
        await self.rates.close()
