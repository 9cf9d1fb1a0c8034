"""What a refusal says: which of the counters it was, and what it counts."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from api.cache.client import Cache
from api.errors import ApiError
from api.limits.rates import RateKind, Rates
from tests.api.limits.counting import tiers
from tests.api.limits.rows import principal

_TOO_MANY = re.compile(r"more than \d+ (requests|logins|registrations|uploads) .*(account|address) in \d+ seconds: ")


async def refused(rates: Rates, kind: RateKind | None) -> str:
    while True:
        try:
            await (rates.hit(kind, "192.0.2.1") if kind is not None else rates.check_request(principal()))
        except ApiError as error:
            return error.message


@pytest.mark.parametrize("kind", [*get_args(RateKind), None])
async def test_it_says_what_was_too_many(cache: Cache, kind: RateKind | None) -> None:
    rates = Rates(cache, tiers())
    said = await refused(rates, kind)
    await rates.close()
    assert _TOO_MANY.match(said), said
