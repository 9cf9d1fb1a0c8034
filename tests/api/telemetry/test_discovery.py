"""Every replica's port is on the list while it lives, and who may read what."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from api.auth.principal import Role
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey
from api.telemetry.discovery import Target, Targets
from api.telemetry.engine import EngineExposure
from api.telemetry.exporter import EVERYWHERE, Exporter, allows
from api.telemetry.exposure import MetricsSettings
from api.telemetry.registry import Registry
from tests.api.conftest import MakePlatform
from tests.api.fakes import FakeGenerator
from tests.api.platform import Platform
from tests.api.streams.stage import Stage, eventually

TOKEN = "a token of the tests only"
HERE: dict[str, Any] = {"host": "127.0.0.1", "base_url": "http://localhost"}


def served(registry: Registry | None = None, host: str = "127.0.0.1", token: str | None = None) -> Exporter:
    exporter = Exporter(registry or Registry(["http"]), host, token)
    exporter.start()
    return exporter


@pytest.fixture
async def listing(valkey: EmbeddedValkey, cache: Cache) -> AsyncIterator[Cache]:
    """The cache as the platform sees it. (``cache`` flushed it.)"""
    connected = Cache.connect(valkey.url)
    yield connected
    await connected.close()


def test_a_port_of_its_own_and_both_formats() -> None:
    registry = Registry(["http"])
    registry.counter("tutti_http_requests_total").labels("GET", "/", "200").inc(1, {"request_id": "req_1"})
    exporter = served(registry)
    try:
        url = f"http://{exporter.address}"
        plain = httpx2.get(f"{url}/metrics", trust_env=False, timeout=30.0)
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        openmetrics = httpx2.get(
            f"{url}/metrics", headers={"Accept": "application/openmetrics-text"}, trust_env=False, timeout=30.0
        )
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
        assert '# {request_id="req_1"}' in openmetrics.text
        assert openmetrics.text.endswith("# EOF\n")
        assert httpx2.get(f"{url}/else", trust_env=False, timeout=30.0).status_code == 404
        assert httpx2.post(f"{url}/metrics", trust_env=False, timeout=30.0).status_code == 404
    finally:
        exporter.close()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", exporter.port)):
        pass


def test_a_port_may_ask_for_a_token() -> None:
    exporter = served(token=TOKEN, host=EVERYWHERE)
    try:
        url = f"http://127.0.0.1:{exporter.port}/metrics"
        assert httpx2.get(url, trust_env=False, timeout=30.0).status_code == 401
        assert (
            httpx2.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=30.0).status_code
            == 200
        )
        assert not exporter.address.startswith(EVERYWHERE)
    finally:
        exporter.close()
    assert not allows(TOKEN, "Bearer é")


async def test_the_list_forgets_who_says_nothing(cache: Cache) -> None:
    targets = Targets(cache)
    here, gone = Target("ingress", "ing_1", "127.0.0.1:1"), Target("worker", "wrk_1", "127.0.0.1:2")
    await targets.announce(here)
    await targets.announce(here)
    await targets.announce(gone, ttl_s=-1)
    assert await targets.all() == [here]
    await targets.withdraw(here)
    assert await targets.all() == []


async def test_every_replica_is_listed_and_read(
    make_stage: Callable[..., Awaitable[Stage]], generator: FakeGenerator, listing: Cache
) -> None:
    stage = await make_stage(generator)
    await stage.gateway()
    async with stage.client(1) as http:
        await eventually(lambda: _listed(http, 2))
        listed = (await http.get("/metrics/targets")).json()
    assert [each["labels"]["role"] for each in listed] == ["ingress", "ingress"]
    assert len({each["labels"]["replica"] for each in listed}) == 2
    for each in listed:
        text = httpx2.get(f"http://{each['targets'][0]}/metrics", trust_env=False, timeout=30.0).text
        assert "tutti_sli_events_total" in text
    await stage.open.aclose()
    assert await Targets(listing).all() == []


async def _listed(http: httpx2.AsyncClient, number: int) -> bool:
    return len((await http.get("/metrics/targets")).json()) == number


async def test_an_engine_shows_what_it_was_asked_for(valkey: EmbeddedValkey, listing: Cache) -> None:
    given = {"tutti_engine_steps_total": {"": 3.0}}, {"tutti_engine_rows": {"free": 16.0}}
    settings = MetricsSettings(redis_url=valkey.url)
    engine = EngineExposure("tiny", lambda: given, settings)
    engine.start()
    targets = Targets(listing)

    async def is_there() -> bool:
        return any(target.role == "engine" for target in await targets.all())

    try:
        await eventually(is_there)
        [target] = [target for target in await targets.all() if target.role == "engine"]
        engine.look()
        text = httpx2.get(f"http://{target.address}/metrics", trust_env=False, timeout=30.0).text
        assert 'tutti_engine_rows{model="tiny",state="free"} 16.0' in text
        assert 'tutti_engine_steps_total{model="tiny"}' in text
    finally:
        engine.close()
        engine.close()
    assert not await is_there()


def test_an_engine_without_a_cache_serves_nothing() -> None:
    engine = EngineExposure("tiny", lambda: ({}, {}), MetricsSettings(redis_url=None))
    engine.start()
    engine.close()


@pytest.mark.parametrize("path", ["/metrics", "/metrics/targets"])
async def test_metrics_answer_this_machine_only(platform: Platform, path: str) -> None:
    here, elsewhere = await platform.connect(**HERE), await platform.connect()
    assert (await here.get(path)).status_code == 200
    assert (await here.get(path, headers={"X-Forwarded-For": "203.0.113.9"})).status_code == 401
    refused = await elsewhere.get(path)
    assert (refused.status_code, refused.headers["x-error-code"]) == (401, "unauthenticated")
    admin = await platform.connect(await platform.key(await platform.account(Role.ADMIN)))
    assert (await admin.get(path)).headers["x-error-code"] == "invalid_credentials"  # an API key is no scraper's token


@pytest.mark.parametrize("path", ["/metrics", "/metrics/targets"])
async def test_with_a_token_it_is_asked_for_everywhere(make_platform: MakePlatform, path: str) -> None:
    platform = await make_platform(FakeGenerator(), environment="production", metrics_token=TOKEN)
    for place in (HERE, {}):
        http = await platform.connect(**place)
        assert (await http.get(path)).status_code == 401
        assert (await http.get(path, headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await http.get(path, headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 200


async def test_without_the_cache_there_is_no_empty_list(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus keeps its last list after an error, and forgets everybody after an empty one."""
    nowhere = Cache.connect("redis://127.0.0.1:1")
    monkeypatch.setattr("api.routes.health.Targets", lambda _cache: Targets(nowhere))
    answer = await (await platform.connect(**HERE)).get("/metrics/targets")
    assert (answer.status_code, answer.headers["x-error-code"]) == (503, "not_ready")
    await nowhere.close()


async def test_operators_see_the_service_levels(platform: Platform) -> None:
    user = await platform.connect(await platform.key(await platform.account()))
    operator = await platform.connect(await platform.key(await platform.account(Role.OPERATOR)))
    assert (await user.get("/api/v1/slo")).status_code == 403
    body = {"prompt": "calm piano", "duration": 1.0, "format": "pcm"}
    assert (await user.post("/api/v1/generate/stream", json=body)).status_code == 200

    async def is_counted() -> bool:
        levels = (await operator.get("/api/v1/slo")).json()["service_levels"]
        return any(each["sli"] == "success" and each["windows"]["1h"]["good"] == 1 for each in levels)

    await eventually(is_counted)
    levels = {
        (each["sli"], each["tier"]): each for each in (await operator.get("/api/v1/slo")).json()["service_levels"]
    }
    heard = levels["ttfa", "enterprise"]["windows"]["30d"]
    assert heard["good"] + heard["bad"] == 1
    assert levels["success", "enterprise"]["error_budget"]["remaining"] == 1.0
    assert levels["success", "free"]["error_budget"]["remaining"] is None
