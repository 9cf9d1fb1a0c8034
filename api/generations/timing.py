"""How often a worker does what."""

from __future__ import annotations

from dataclasses import dataclass

from api.generations.states import LEASE_S


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds.

    Attributes:
        lease_s: how long a lease holds without a heartbeat.
        heartbeat_s: between two.
        poll_s: between looks at the queue that nobody rang for.
        housekeeping_s: between looks for what has expired.
        drain_s: what running generations get when the worker is told to stop.
        retry_s: between attempts to write down a result while the database is away.
        report_s: between signs of life of a worker that has nothing to do.
        replicas_s: between looks at how many replicas are ready.
    """

    lease_s: float = LEASE_S
    heartbeat_s: float = 1.0
    poll_s: float = 0.5
    housekeeping_s: float = 1.0
    drain_s: float = 120.0
    retry_s: float = 0.25
    report_s: float = 3.0
    replicas_s: float = 2.0
