"""Rates with small numbers, and what they refuse."""

from __future__ import annotations

import asyncio

from api.errors import ApiError
from api.limits.rates import RateKind, Rates
from api.limits.tiers import RatePolicy, Tiers
from tests.api.limits.rows import TIERS, tier


def tiers(requests_per_minute: int = 5, login_ip: int = 3) -> Tiers:
    """The file's, with small numbers."""
    small = tier(requests_per_minute=requests_per_minute)
    policies = TIERS.rates.model_copy(update={"login_ip": RatePolicy(limit=login_ip, window_s=300)})
    return TIERS.model_copy(update={"tiers": {**TIERS.tiers, "free": small}, "rates": policies})


async def refusals(rates: Rates, times: int, kind: RateKind = "login_ip", key: str = "192.0.2.1") -> list[ApiError]:
    results = await asyncio.gather(*(rates.hit(kind, key) for _ in range(times)), return_exceptions=True)
    refused = [each for each in results if isinstance(each, ApiError)]
    assert len(refused) + results.count(None) == times
    return refused
