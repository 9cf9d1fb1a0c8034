"""The order of ``autoscaling.fairness`` kept up to date as requests come and go: a decision costs the logarithm of the
tenants and not their number.

The API's queue lives in SQL and asks ``fairness.choose`` about the few tenants that its query names; the simulator, and
whoever holds a queue in memory, use this. A test holds them against each other, decision by decision.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from autoscaling.fairness import Shares, Slots, TierRule, Waiting

_Order = tuple[bool, datetime, str]

_LATER_S = 1e-6
"""Of the clock: so little stands an account behind one of the same clock that began to wait just before it."""


@dataclass(slots=True)
class _Account:
    """One tenant: its clock, what runs and what waits (a heap, in its order)."""

    name: str
    tier: str
    virtual_s: float = 0.0
    running: int = 0
    waiting: list[tuple[_Order, Waiting]] = field(default_factory=list)
    stamp: int = 0
    """Counts its entries in the tier's heap: only the newest is true."""
    since: int = 0
    """Number of the request with which it began to wait."""


class FairQueue:
    """Who is next, for one model.

    Args:
        rules: tier → what the queue needs to know of it.
    """

    def __init__(self, rules: Mapping[str, TierRule]) -> None:
        self.rules = dict(rules)
        self.shares = Shares(rules)
        self._accounts: dict[str, _Account] = {}
        self._heaps: dict[str, list[tuple[float, str, int]]] = {tier: [] for tier in rules}
        self._cancelled: set[str] = set()
        self._audio_s = dict.fromkeys(rules, 0.0)
        self._count = 0
        self._pushed = 0
        self._highest_s = dict.fromkeys(rules, 0.0)

    def __len__(self) -> int:
        return self._count

    def waiting_audio_s(self, tier: str) -> float:
        """Audio-seconds of the tier that wait."""
        return self._audio_s[tier]

    def push(self, account: str, tier: str, request: Waiting) -> None:
        """One more waits. An account of which nothing waited starts no lower than those that do, and behind them; if
        nobody does, where the last one ended.

        Raises:
            KeyError: no such tier.
        """
        tenant = self._accounts.get(account)
        if tenant is None or tenant.tier != tier:
            tenant = self._accounts[account] = _Account(account, tier, tenant.virtual_s if tenant else 0.0)
        self._pushed += 1
        if not tenant.waiting:
            tenant.virtual_s = max(tenant.virtual_s, self._floor_s(tier))
            tenant.since = self._pushed
        heapq.heappush(tenant.waiting, (request.order, request))
        self._audio_s[tier] += request.audio_s
        self._count += 1
        self._offer(tenant)

    def cancel(self, account: str, request: Waiting) -> None:
        """It waits no longer; it was never charged. It must wait."""
        self._cancelled.add(request.generation_id)
        self._audio_s[self._accounts[account].tier] -= request.audio_s
        self._count -= 1
        self._offer(self._accounts[account])

    def pop(self, slots: Slots) -> tuple[str, Waiting] | None:
        """The next one and whose it is, charged and counted as running; None as in ``fairness.choose``."""
        firsts = {tier: tenant for tier in self._heaps if (tenant := self._first(tier)) is not None}
        for tier in self.shares.order({tier: each.waiting[0][1].audio_s for tier, each in firsts.items()}):
            tenant, request = firsts[tier], firsts[tier].waiting[0][1]
            if slots.open_to(self.rules[tier], request, self.shares.owed(tier)):
                return self._serve(tenant, request, firsts) if slots.fit(request.num_tracks) else None
        return None

    def _serve(self, tenant: _Account, request: Waiting, waiting: Collection[str]) -> tuple[str, Waiting]:
        heapq.heappop(tenant.waiting)
        self.shares.served(tenant.tier, request.audio_s, waiting)
        tenant.virtual_s += self.rules[tenant.tier].charge_s(request.audio_s)
        tenant.running += 1
        self._highest_s[tenant.tier] = max(self._highest_s[tenant.tier], tenant.virtual_s)
        self._audio_s[tenant.tier] -= request.audio_s
        self._count -= 1
        self._offer(tenant)
        return tenant.name, request

    def finished(self, account: str) -> None:
        """One that ran has ended."""
        tenant = self._accounts[account]
        tenant.running -= 1
        self._offer(tenant)

    def refund(self, account: str, audio_s: float) -> None:
        """So much of what was charged was not made after all."""
        tenant = self._accounts[account]
        tenant.virtual_s -= self.rules[tenant.tier].charge_s(audio_s)
        self._offer(tenant)

    def _offer(self, tenant: _Account) -> None:
        """Into its tier's heap if it may be served; what stood there of it before is no longer true."""
        while tenant.waiting and tenant.waiting[0][1].generation_id in self._cancelled:
            self._cancelled.discard(heapq.heappop(tenant.waiting)[1].generation_id)
        tenant.stamp += 1
        if tenant.waiting and tenant.running < self.rules[tenant.tier].running:
            heapq.heappush(self._heaps[tenant.tier], (tenant.virtual_s, tenant.name, tenant.stamp))

    def _first(self, tier: str) -> _Account | None:
        heap = self._heaps[tier]
        while heap:
            _, name, stamp = heap[0]
            tenant = self._accounts[name]
            if tenant.stamp == stamp and tenant.tier == tier:
                return tenant
            heapq.heappop(heap)
        return None

    def _floor_s(self, tier: str) -> float:
        first = self._first(tier)
        if first is None:
            return self._highest_s[tier]
        return first.virtual_s + _LATER_S * (self._pushed - first.since)
