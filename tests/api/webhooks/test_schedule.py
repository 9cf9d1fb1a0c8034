"""When a delivery is tried again."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.generations.view import TERMINAL
from api.webhooks.events import EventType, asks_for
from api.webhooks.schedule import (
    JITTER,
    MAX_ATTEMPTS,
    MAX_RETRY_AFTER_S,
    WAITS_S,
    next_attempt,
    parse_retry_after,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_ten_attempts_over_75_hours_each_wait_longer_than_the_one_before() -> None:
    assert MAX_ATTEMPTS == 10
    assert 75 <= sum(WAITS_S) / 3600 < 76
    assert all(earlier < later for earlier, later in pairwise(WAITS_S))


@given(st.integers(1, MAX_ATTEMPTS - 1), st.integers())
def test_the_wait_is_the_schedules_give_or_take_the_jitter(failures: int, seed: int) -> None:
    at = next_attempt(failures, NOW, None, random.Random(seed))
    assert at is not None
    wait_s = (at - NOW).total_seconds()
    assert abs(wait_s - WAITS_S[failures - 1]) <= JITTER * WAITS_S[failures - 1] + 1e-6


def test_there_is_no_eleventh_attempt() -> None:
    assert next_attempt(MAX_ATTEMPTS, NOW, 5.0, random.Random()) is None


@pytest.mark.parametrize(
    ("asked_s", "least_s", "most_s"), [(0, 4.5, 5.5), (1, 4.5, 5.5), (60, 60, 60), (1e9, 86_400, 86_400)]
)
def test_a_receiver_may_ask_for_a_longer_wait_up_to_a_day(asked_s: float, least_s: float, most_s: float) -> None:
    at = next_attempt(1, NOW, asked_s, random.Random())
    assert at is not None
    assert least_s <= (at - NOW).total_seconds() <= most_s


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("٣", None), ("Wed, 99 Mar 2026", None),
        ("0", 0.0), (" 120 ", 120.0), ("9" * 5000, MAX_RETRY_AFTER_S),
        ("Sun, 01 Mar 2026 12:02:00 GMT", 120.0), ("Sun, 01 Mar 2026 12:02:00", 120.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 01 Mar 99999 12:02:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_in_both_forms(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value, NOW) == expected


@given(st.text())
def test_no_header_breaks_the_reading_of_it(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0


def test_every_last_state_has_its_event() -> None:
    assert {f"generation.{state}" for state in TERMINAL} == set(EventType)


def test_what_an_endpoint_asks_for() -> None:
    assert asks_for(["*"], "generation.failed")
    assert asks_for(["generation.failed"], "generation.failed")
    assert not asks_for(["generation.failed"], "generation.succeeded")


def test_naive_dates_are_read_as_utc() -> None:
    assert parse_retry_after("Sun, 01 Mar 2026 12:00:10 -0000", NOW) == timedelta(seconds=10).total_seconds()
