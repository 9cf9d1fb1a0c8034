"""Accepting and refusing, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from api.auth.principal import Principal
from api.errors import ApiError, ErrorCode
from api.generations import states
from api.generations.view import Created, CreateGeneration, State
from api.ids import new_id
from api.limits import idempotency
from api.store.schema import generations, idempotency_keys, outbox, tracks
from models.errors import InvalidRequestError, ModelNotFoundError
from models.types import MAX_SEED, SamplingParams
from tests.api.fakes import spec
from tests.api.generations.conftest import Bench, MakeBench, ManualClock

WISH = CreateGeneration("a tune", duration_s=2.0, num_tracks=2)
HASH = idempotency.request_hash("POST", "/api/v1/generate", {"prompt": "a tune"})


async def create(bench: Bench, owner: Principal, wish: CreateGeneration = WISH, **values: Any) -> Created:
    return await bench.service.create(owner, wish, request_id=new_id("req"), **values)


async def count(bench: Bench, table: Any) -> int:
    async with bench.db.read() as conn:
        return int((await conn.execute(select(func.count()).select_from(table))).scalar_one())


async def refusal(bench: Bench, owner: Principal, wish: CreateGeneration = WISH, **values: Any) -> ErrorCode:
    """The refused call's code; it has left nothing behind."""
    before = [await count(bench, table) for table in (generations, tracks, outbox, idempotency_keys)]
    used = await bench.used(owner)
    with pytest.raises(ApiError) as refused:
        await create(bench, owner, wish, **values)
    assert [await count(bench, table) for table in (generations, tracks, outbox, idempotency_keys)] == before
    assert await bench.used(owner) == used
    return refused.value.code


# ---------------------------------------------------------------------------------------------- accepting
async def test_what_is_accepted_says_everything(make_bench: MakeBench, manual_clock: ManualClock) -> None:
    bench = make_bench(manual_clock)
    owner = await bench.account()
    sampling = SamplingParams(guidance=2.0, temperature=0.5, top_k=10, top_p=0.25, greedy=True)
    labels: dict[str, Any] = {"campaign_id": "c", "client_id": "d", "brief_id": "e", "collection": "f"}
    wish = replace(
        WISH,
        seed=MAX_SEED,
        sampling=sampling,
        format="flac",
        metadata={"n": 1},
        webhook_url="https://x.test/",
        **labels,
    )
    view = (await create(bench, owner, wish)).view
    assert (view.state, view.version, view.attempt, view.mode) == (State.QUEUED, 1, 0, "async")
    assert (view.prompt, view.model_id, view.duration_s, view.num_tracks) == ("a tune", "tiny", 2.0, 2)
    assert (view.sampling, view.format, view.metadata, view.webhook_url) == (
        sampling,
        "flac",
        {"n": 1},
        "https://x.test/",
    )
    assert {name: getattr(view, name) for name in labels} == labels
    assert [track.seed for track in view.tracks] == [MAX_SEED, 0]
    assert view.cost_steps == 2 * (100 + 3)
    assert view.created_at == manual_clock()
    assert (view.deadline_at - view.created_at).total_seconds() == 30 + 2 * 2
    assert (view.expires_at - view.created_at).total_seconds() == 3600
    assert view.queue_position == 1
    rows = await bench.track_rows(view.id)
    assert [row["position"] for row in rows] == [0, 1]
    assert all({name: row[name] for name in labels} == labels and row["metadata"] == {"n": 1} for row in rows)


async def test_a_seed_is_chosen_where_none_is_given(bench: Bench) -> None:
    owner = await bench.account()
    seeds = {(await create(bench, owner)).view.seed for _ in range(4)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


async def test_the_duration_left_out_is_ten_seconds(bench: Bench) -> None:
    assert (await create(bench, await bench.account(), CreateGeneration("a tune"))).view.duration_s == 10.0


async def test_a_streamed_one_expires_soon(bench: Bench) -> None:
    view = (await create(bench, await bench.account(), mode="stream")).view
    assert (view.expires_at - view.created_at).total_seconds() == bench.settings.stream_queue_expiry_s


async def test_a_test_key_uses_no_quota(bench: Bench) -> None:
    owner = replace(await bench.account(), test_mode=True)
    assert (await create(bench, owner)).view.test_mode
    assert await bench.used(owner) == 0


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"duration_s": 31.0}, "duration"),
        ({"duration_s": 0.001}, "duration"),
        ({"num_tracks": 5}, "num_tracks"),
    ],
)
async def test_what_model_or_tier_do_not_allow_is_named(bench: Bench, wish: dict[str, Any], param: str) -> None:
    owner = await bench.account()
    with pytest.raises(InvalidRequestError) as refused:
        await create(bench, owner, replace(WISH, **wish))
    assert refused.value.param == param
    assert await count(bench, generations) == 0


@pytest.mark.parametrize("use", ["melody", "continuation", "style"])
async def test_a_model_that_plays_from_words_only_takes_no_audio(bench: Bench, use: str) -> None:
    with pytest.raises(ApiError, match=f"tiny can not take a {use}") as refused:
        await create(bench, await bench.account(), replace(WISH, conditioning={use: "trk_1"}))
    assert (refused.value.code, refused.value.param) == (ErrorCode.CONDITIONING_UNSUPPORTED, use)
    assert await count(bench, generations) == 0


async def test_a_tier_may_allow_less_than_the_model(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.service._models["tiny"] = spec("tiny", max_duration_s=120.0)
    with pytest.raises(InvalidRequestError, match="at most 30 s in the free tier"):
        await create(bench, await bench.account("free"), replace(WISH, duration_s=60.0))


async def test_an_unknown_model_is_refused_with_those_there_are(bench: Bench) -> None:
    with pytest.raises(ModelNotFoundError, match="tiny, small"):
        await create(bench, await bench.account(), replace(WISH, model_id="huge"))


# --------------------------------------------------------------------------------------------- refusing
async def test_quota_concurrency_and_overload_are_three_refusals_and_leave_nothing(
    make_bench: MakeBench, manual_clock: ManualClock
) -> None:
    bench = make_bench(manual_clock)
    owner = await bench.account("free")
    for _ in range(5):
        await create(bench, owner)
    assert await refusal(bench, owner) == ErrorCode.CONCURRENCY_LIMIT_EXCEEDED
    assert await refusal(bench, owner, idempotency_key="k", request_hash=HASH) == ErrorCode.CONCURRENCY_LIMIT_EXCEEDED
    busy = await bench.account("free")
    for _ in range(10):
        view = (await create(bench, busy)).view
        async with bench.db.begin() as conn:
            lease = await states.start(conn, view.id, busy.account_id, "wrk_1", manual_clock(), charge_s=1.0)
            assert lease is not None
            await states.succeed(conn, lease, {}, manual_clock(), first_audio_at=None, real_time_factor=1.0)
    assert await refusal(bench, busy) == ErrorCode.QUOTA_EXCEEDED
    manual_clock.forward(3600)
    await create(bench, busy)


async def test_a_full_system_refuses_and_leaves_nothing(bench: Bench) -> None:
    for _ in range(8):
        crowd = await bench.account("enterprise")
        for _ in range(8):
            await create(bench, crowd)
    late = await bench.account()
    assert await refusal(bench, late) == ErrorCode.SYSTEM_OVERLOADED
    assert await refusal(bench, late, idempotency_key="k", request_hash=HASH) == ErrorCode.SYSTEM_OVERLOADED


# ------------------------------------------------------------------------------------------- idempotency
async def test_the_same_key_makes_nothing_new(bench: Bench) -> None:
    owner = await bench.account()
    first = await create(bench, owner, idempotency_key="k", request_hash=HASH)
    again = await create(bench, owner, idempotency_key="k", request_hash=HASH)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.view == first.view
    assert (await count(bench, generations), await bench.used(owner)) == (1, 1)


async def test_the_same_key_many_times_at_once_makes_one(bench: Bench) -> None:
    owner = await bench.account()
    calls = [create(bench, owner, idempotency_key="k", request_hash=HASH) for _ in range(8)]
    answers = await asyncio.gather(*calls)
    assert len({each.view.id for each in answers}) == 1
    assert [each.replayed for each in answers].count(False) == 1
    assert await count(bench, generations) == 1


async def test_a_key_is_its_accounts_own(bench: Bench) -> None:
    answers = [await create(bench, await bench.account(), idempotency_key="k", request_hash=HASH) for _ in range(2)]
    assert answers[0].view.id != answers[1].view.id


async def test_another_request_under_the_same_key_is_refused(bench: Bench) -> None:
    owner = await bench.account()
    await create(bench, owner, idempotency_key="k", request_hash=HASH)
    other = idempotency.request_hash("POST", "/api/v1/generate", {"prompt": "another"})
    assert await refusal(bench, owner, idempotency_key="k", request_hash=other) == ErrorCode.IDEMPOTENCY_KEY_REUSED


async def test_limits_hold_when_calls_come_at_once(bench: Bench) -> None:
    owner = await bench.account("free")
    answers = await asyncio.gather(*(create(bench, owner) for _ in range(12)), return_exceptions=True)
    assert sum(isinstance(answer, Created) for answer in answers) == 5
    assert await count(bench, generations) == await bench.used(owner) == 5
