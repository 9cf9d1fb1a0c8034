"""Profile, usage and tiers."""

from __future__ import annotations

from api.limits import quota
from api.store.database import Database
from tests.api.auth.calls import bearer, code, make_key, register
from tests.api.auth.conftest import Connect, ManualClock, Platform
from tests.api.limits.rows import TIERS

USAGE = "/api/v1/user/usage"


async def test_usage_is_that_of_the_windows_beside_the_tiers_limits(
    connect: Connect, database: Database, clock: ManualClock
) -> None:
    async with connect() as http:
        grant = await register(http)
        async with database.begin() as conn:
            await quota.reserve(conn, grant["account_id"], TIERS["free"], generations=3, audio_s=90.5, now=clock())
        usage = (await http.get(USAGE, headers=bearer(grant["access_token"]))).json()
    assert usage["tier"]["name"] == "free"
    hour, day, month = usage["windows"]
    assert (hour["window"], hour["generations"], hour["generations_limit"], hour["generations_remaining"]) == (
        "hour",
        3,
        10,
        7,
    )
    assert (hour["audio_s"], hour["audio_s_limit"], hour["audio_s_remaining"]) == (90.5, None, None)
    assert (day["generations_remaining"], day["audio_s_limit"], day["audio_s_remaining"]) == (47, 1800, 1709.5)
    assert (hour["starts_at"], hour["resets_at"]) == ("2026-03-31T22:00:00Z", "2026-03-31T23:00:00Z")
    assert month["generations_limit"] is None


async def test_usage_before_the_first_call_is_none(connect: Connect) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        usage = (await http.get(USAGE, headers=bearer(token))).json()
        assert [window["generations"] for window in usage["windows"]] == [0, 0, 0]
        blind = (await make_key(http, token, scopes=["audio:read"]))["key"]
        assert code(await http.get(USAGE, headers=bearer(blind))) == "permission_denied"


async def test_anybody_may_see_the_tiers(connect: Connect) -> None:
    async with connect() as http:
        tiers = (await http.get("/api/v1/tiers")).json()["data"]
    assert [tier["name"] for tier in tiers] == list(TIERS.names)
    assert tiers[0] == {
        "name": "free",
        "generations_per_hour": 10,
        "generations_per_day": 50,
        "audio_s_per_day": 1800,
        "max_duration_s": 30,
        "max_tracks": 2,
        "running": 1,
        "queued": 4,
        "listeners": 20,
        "requests_per_minute": 120,
    }
    assert tiers[2]["generations_per_hour"] is None


async def test_every_answer_is_described(platform: Platform) -> None:
    document = platform.app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/api/"):
                assert operation["summary"], (method, path)
                assert operation["description"], (method, path)
                assert "500" in operation["responses"], (method, path)
