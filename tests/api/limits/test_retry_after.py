"""When those who are refused may come back: honestly, and each behind those who were refused before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError, ErrorCode
from api.generations.outlook import Backlogs
from api.limits import Limits
from api.limits.admission import Admission
from api.limits.coming_back import MAX_LATER_S
from api.limits.concurrency import Mode
from api.store.database import Database
from autoscaling.backlog import Backlog, Capacity, Line, ModelBacklog, Work
from tests.api.limits.asking import ask, fill, newcomer
from tests.api.limits.rows import NOW, TIERS, add_account, tier


async def test_there_is_none(database: Database, limits: Limits) -> None:
    await fill(database, steps=345 * 200)
    with pytest.raises(ApiError, match="would wait about 345 s, and the free tier is promised 300 s") as caught:
        await ask(database, limits)
    assert caught.value.code is ErrorCode.SYSTEM_OVERLOADED
    assert caught.value.status_code == 503
    assert caught.value.headers == {"Retry-After": "45"}
    assert caught.value.details == {"estimated_wait_s": 345.0, "max_wait_s": 300.0}


async def test_each_is_told_to_come_behind_those_who_were_refused_before(database: Database, limits: Limits) -> None:
    """The line has no room for 45 s. Whoever is refused stands in line outside, with 500 steps at 200 a second."""
    await fill(database, steps=345 * 200)
    advice = []
    for _ in range(4):
        with pytest.raises(ApiError) as caught:
            await ask(database, limits)
        advice.append((caught.value.headers or {})["Retry-After"])
    assert advice == ["45", "48", "50", "53"]  # 2.5 s each, rounded up


async def test_lines_outside_are_of_one_model_and_tier(database: Database, limits: Limits) -> None:
    await fill(database, steps=10_000 * 200)
    for _ in range(3):
        with pytest.raises(ApiError):
            await ask(database, limits)
    await add_account(database, "acc_2", tier="enterprise")
    await ask(database, limits, newcomer("acc_2", tier("enterprise"), "stream"))
    await ask(database, limits, newcomer(model_id="small"))


async def test_nobody_is_sent_far_away_because_of_the_line_outside(database: Database, limits: Limits) -> None:
    """As far as it goes for up to ten minutes: each has 250 s of work."""
    await fill(database, steps=345 * 200)
    long = replace(newcomer(), cost_steps=50_000)
    advice = []
    for _ in range(5):
        with pytest.raises(ApiError) as caught:
            await ask(database, limits, long)
        advice.append(int((caught.value.headers or {})["Retry-After"]))
    assert advice == [45, 45 + 250, 45 + 500, 45 + MAX_LATER_S, 45 + MAX_LATER_S]


async def test_what_was_not_read_is_refused_only_if_nothing_would_be_let_in(database: Database, limits: Limits) -> None:
    def unread(mode: Mode, *models: str) -> None:
        limits.admission.check_unread("acc_1", tier(), mode, models)

    unread("async", "tiny")  # nothing is known
    await fill(database, steps=100 * 200)
    await ask(database, limits)
    unread("async", "tiny")
    with pytest.raises(ApiError, match="promised 9 s") as caught:
        unread("stream", "tiny")
    assert caught.value.code is ErrorCode.SYSTEM_OVERLOADED
    unread("stream", "tiny", "small")


async def test_who_is_refused_unread_stands_in_line_as_long_as_others_do(database: Database, limits: Limits) -> None:
    await fill(database, steps=400 * 200)
    await limits.backlogs.refresh(database, NOW)
    advice = []
    for _ in range(2):
        with pytest.raises(ApiError) as caught:
            limits.admission.check_unread("acc_1", tier(), "async", ["tiny"])
        advice.append(int((caught.value.headers or {})["Retry-After"]))
    assert advice == [100, 100 + 400]  # the only one that waits takes 400 s, so that is what this one may take


@given(
    st.integers(1, 64),
    st.floats(1, 1e5),
    st.floats(0, 1e8),
    st.floats(0, 1e8),
    st.sampled_from(["free", "pro", "enterprise"]),
    st.sampled_from(["async", "stream"]),
)
def test_retry_after_is_honest(slots: int, rate: float, running: float, queued: float, name: str, mode: Mode) -> None:
    """Whoever comes back then, while nobody else came, is let in; a second and a bit earlier, not."""

    def attempt(after_s: float) -> ApiError | None:
        done = after_s * rate
        left, line = max(0.0, running - done), max(0.0, queued - max(0.0, done - running))
        own = Line("acc_1", 0.0, Work(line, slots, slots), 10.0 * slots)
        model = ModelBacklog(Capacity(slots, rate), Work(left, slots, slots), {name: {"acc_1": own}})
        backlogs = Backlogs()
        backlogs.seen(Backlog(NOW, {"tiny": model}))
        admission = Admission(TIERS, backlogs, lambda: NOW)
        try:
            admission.check_early(newcomer("acc_1", TIERS[name], mode))
        except ApiError as error:
            return error
        return None

    refused = attempt(0)
    if refused is not None:
        retry_after_s = int((refused.headers or {})["Retry-After"])
        assert attempt(retry_after_s * (1 + 1e-9)) is None
        if retry_after_s > 1:
            assert attempt(retry_after_s - 1.001) is not None
