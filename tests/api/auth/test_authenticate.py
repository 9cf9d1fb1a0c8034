"""Who is asking: every way to prove it, and every way in which a proof is worth nothing (any more)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from api.auth.api_keys import NewKey
from api.auth.authenticator import CACHE_S, LOCAL_ACCOUNT
from api.auth.principal import ALL_SCOPES, Role
from tests.api.auth.calls import LOOPBACK, PROFILE, bearer, client, code, make_key, register
from tests.api.auth.conftest import Connect, ManualClock, Platform, production

MakePlatform = Callable[..., Platform]
LEGACY = "0123456789abcdef-from-before"


# ----------------------------------------------------------------------------------------- without any
async def test_production_wants_a_credential_even_from_this_machine(platform: Platform) -> None:
    async with client(platform, base="http://localhost:8000", address=LOOPBACK) as http:
        answer = await http.get(PROFILE)
    assert (answer.status_code, code(answer)) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == 'Bearer realm="tutti"', "no error where there was no attempt"


async def test_in_development_this_machine_needs_none(make_platform: MakePlatform) -> None:
    async with client(make_platform(), base="http://127.0.0.1:8000", address=LOOPBACK) as http:
        profile = (await http.get(PROFILE)).json()
        assert (profile["id"], profile["credential"], profile["tier"]) == (LOCAL_ACCOUNT, "local", "enterprise")
        assert set(profile["scopes"]) == ALL_SCOPES
        assert (await http.get("/admin")).status_code == 200
        assert (await http.post("/write")).json()["account"] == LOCAL_ACCOUNT


async def test_the_local_tier_follows_the_setting(make_platform: MakePlatform) -> None:
    for tier in ("enterprise", "free"):
        async with client(make_platform(local_tier=tier), base="http://localhost", address=LOOPBACK) as http:
            assert (await http.get(PROFILE)).json()["tier"] == tier


async def test_in_development_other_machines_need_one(make_platform: MakePlatform) -> None:
    async with client(make_platform(), base="http://localhost:8000") as http:
        answer = await http.get(PROFILE)
    assert (answer.status_code, code(answer)) == (401, "unauthenticated")
    assert "did not come from this machine" in answer.json()["error"]["message"]


async def test_a_page_elsewhere_cannot_use_the_local_account(make_platform: MakePlatform) -> None:
    platform = make_platform()
    async with client(platform, base="http://localhost:8000", address=LOOPBACK) as http:
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            answer = await http.post("/write", headers=headers)
            assert (answer.status_code, code(answer)) == (403, "csrf_failed")
        assert (await http.post("/write", headers={"Sec-Fetch-Site": "same-origin"})).status_code == 200
    async with client(platform, base="http://evil.example:8000", address=LOOPBACK) as rebound:
        assert code(await rebound.get(PROFILE)) == "unauthenticated"


async def test_in_development_a_credential_still_counts(make_platform: MakePlatform) -> None:
    async with client(make_platform(), base="http://localhost:8000", address=LOOPBACK) as http:
        grant = await register(http)
        profile = (await http.get(PROFILE, headers=bearer(grant["access_token"]))).json()
        assert profile["id"] == grant["account_id"]
        assert code(await http.get(PROFILE, headers=bearer("wrong"))) == "invalid_credentials"


# ------------------------------------------------------------------------------------------ what is sent
@pytest.mark.parametrize("how", ["Authorization", "X-API-Key", "lower-case scheme", "both"])
async def test_a_key_is_taken_from_either_header(connect: Connect, how: str) -> None:
    async with connect() as http:
        grant = await register(http)
        key = (await make_key(http, grant["access_token"]))["key"]
        headers = {
            "Authorization": bearer(key),
            "X-API-Key": {"X-API-Key": key},
            "lower-case scheme": {"Authorization": f"bearer  {key}"},
            "both": {"X-API-Key": key, **bearer(key)},
        }[how]
        profile = (await http.get(PROFILE, headers=headers)).json()
    assert (profile["id"], profile["credential"]) == (grant["account_id"], "api_key")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": ""},
        {"X-API-Key": ""},
        {"X-API-Key": "x" * 5000},
        {"X-API-Key": b"\xff\xfe key"},
        {"Authorization": "Bearer one", "X-API-Key": "two"},
        {"Authorization": "Bearer unknown"},
        {"Authorization": "Bearer eyJ.eyJ.x"},
    ],
)
async def test_what_is_no_credential_is_refused(connect: Connect, headers: dict[str, str]) -> None:
    async with connect() as http:
        answer = await http.get(PROFILE, headers=headers)
    assert (answer.status_code, code(answer)) == (401, "invalid_credentials")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_two_headers_of_one_name_are_refused(connect: Connect) -> None:
    async with connect() as http:
        answer = await http.get(PROFILE, headers=[("Authorization", "Bearer a"), ("Authorization", "Bearer b")])
    assert code(answer) == "invalid_credentials"


@pytest.mark.parametrize("name", ["api_key", "apikey", "API_KEY", "access_token", "x-api-key", "q"])
async def test_a_key_in_the_url_is_refused_though_it_is_valid(connect: Connect, name: str) -> None:
    async with connect() as http:
        grant = await register(http)
        key = (await make_key(http, grant["access_token"]))["key"]
        answer = await http.get(PROFILE, params={name: key}, headers=bearer(key))
        assert (answer.status_code, code(answer)) == (400, "credential_in_url")
        assert key not in answer.text


async def test_a_typo_is_told_from_an_unknown_key(connect: Connect) -> None:
    async with connect() as http:
        key = (await make_key(http, (await register(http))["access_token"]))["key"]
        typo = await http.get(PROFILE, headers=bearer(key[:-1] + ("a" if key[-1] != "a" else "b")))
        cut = await http.get(PROFILE, headers=bearer(key[:-1]))
    assert "mistyped" in typo.json()["error"]["message"]
    assert "cut" in cut.json()["error"]["message"]
    assert {code(typo), code(cut)} == {"invalid_credentials"}


async def test_a_key_of_another_installation_is_unknown(make_platform: MakePlatform) -> None:
    async with client(make_platform(**production())) as http:
        grant = await register(http)
        key = (await make_key(http, grant["access_token"]))["key"]
    async with client(make_platform(**production(secret_key="another secret of this length, or longer"))) as http:
        for credential in (key, grant["access_token"]):
            assert code(await http.get(PROFILE, headers=bearer(credential))) == "invalid_credentials"


async def test_guessing_has_a_pace(connect: Connect) -> None:
    async with connect() as http:
        answers = [await http.get(PROFILE, headers=bearer(f"guess{attempt}")) for attempt in range(301)]
    assert {code(answer) for answer in answers[:300]} == {"invalid_credentials"}
    assert code(answers[300]) == "rate_limited"


async def test_requests_are_counted_and_say_so(connect: Connect) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        left = [
            int((await http.get(PROFILE, headers=bearer(token))).headers["x-ratelimit-remaining"]) for _ in range(3)
        ]
        assert left == [119, 118, 117]
        refused = await http.post("/admin-of-nothing", headers=bearer(token))
        assert "x-ratelimit-limit" not in refused.headers


# ------------------------------------------------------------------------------------ scopes, roles, modes
async def test_a_key_may_do_what_its_scopes_say(connect: Connect) -> None:
    async with connect() as http:
        token = (await register(http))["access_token"]
        reader = (await make_key(http, token, scopes=["audio:read"]))["key"]
        writer = (await make_key(http, token, scopes=["audio:write"]))["key"]
        refused = await http.post("/write", headers=bearer(reader))
        assert (refused.status_code, code(refused)) == (403, "permission_denied")
        assert refused.json()["error"]["details"] == {"missing_scopes": ["audio:write"]}
        assert 'scope="audio:write"' in refused.headers["www-authenticate"]
        assert (await http.post("/write", headers=bearer(writer))).status_code == 200
        assert code(await http.get(PROFILE, headers=bearer(writer))) == "permission_denied"


async def test_a_role_is_needed_where_it_is_asked_for(connect: Connect, platform: Platform, clock: ManualClock) -> None:
    async with connect() as http:
        grant = await register(http)
        refused = await http.get("/admin", headers=bearer(grant["access_token"]))
        assert (refused.status_code, code(refused)) == (403, "permission_denied")
        await platform.accounts.directory.set_role(grant["account_id"], Role.ADMIN)
        clock.advance(CACHE_S)
        assert (await http.get("/admin", headers=bearer(grant["access_token"]))).status_code == 200


async def test_a_test_key_is_known_as_one(connect: Connect) -> None:
    async with connect() as http:
        made = await make_key(http, (await register(http))["access_token"], mode="test")
        assert made["key"].startswith("sk_test_tt_")
        assert (await http.post("/write", headers=bearer(made["key"]))).json()["test"] is True


# ------------------------------------------------------------------------------------------- legacy keys
async def test_a_legacy_key_works_and_is_deprecated(connect: Connect, platform: Platform) -> None:
    async with connect() as http:
        grant = await register(http)
        await platform.accounts.keys.adopt(grant["account_id"], NewKey("old", "live", ALL_SCOPES), LEGACY)
        answer = await http.get(PROFILE, headers={"X-API-Key": LEGACY})
        assert answer.json()["id"] == grant["account_id"]
        assert answer.headers["deprecation"] == "@1767225600"
        assert answer.headers["sunset"] == "Thu, 01 Jul 2027 00:00:00 GMT"
        assert "legacy-api-key" in answer.headers["link"]
        now = await http.get(PROFILE, headers=bearer(grant["access_token"]))
        assert "deprecation" not in now.headers
        unknown = await http.get(PROFILE, headers=bearer("unknown-legacy-key-of-some-length"))
        assert code(unknown) == "invalid_credentials"
        assert "deprecation" not in unknown.headers
