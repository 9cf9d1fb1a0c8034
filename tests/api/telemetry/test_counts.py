"""Counters against a client's own: every call of a mixed load, on the real application, read as Prometheus reads it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.generations import retries
from api.telemetry.discovery import Targets
from models.errors import GenerationFailedError
from models.types import AudioChunk, GenerationRequest
from tests.api.asgi import Exchange
from tests.api.conftest import MakePlatform
from tests.api.fakes import FakeGenerator
from tests.api.platform import Platform
from tests.api.streams.stage import eventually

BODY = {"prompt": "calm piano", "duration": 1.0, "seed": 1, "format": "pcm"}
ENDED = {"succeeded", "failed", "cancelled", "expired"}
Truth = Counter[tuple[str, str, str]]  # tier, mode, outcome


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(retries, "_BACKOFF_S", (0.0, 0.0, 0.0))


class Client:
    """One account, and what it knows of its own calls."""

    def __init__(self, platform: Platform, tier: str, key: str, truth: Truth) -> None:
        self._platform, self._tier, self._key, self._truth = platform, tier, key, truth

    @classmethod
    async def of(cls, platform: Platform, tier: str, truth: Truth) -> Client:
        return cls(platform, tier, await platform.key(await platform.account(tier=tier)), truth)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._key}"}

    def note(self, mode: str, outcome: str) -> None:
        self._truth[self._tier, mode, outcome] += 1

    async def stream(self, expected: str, **more: Any) -> None:
        exchange = Exchange(self._platform.app, {**BODY, **more}, headers=self.headers).start()
        await exchange.finish()
        outcome = (
            "completed"
            if exchange.status == 200
            else {"generation_failed": "failed"}.get(exchange.headers["x-error-code"], "rejected_invalid")
        )
        assert outcome == expected
        self.note("stream", outcome)

    async def leave(self, generator: FakeGenerator) -> None:
        exchange = Exchange(self._platform.app, BODY, headers=self.headers).start()
        await exchange.until(lambda: exchange.status == 200)
        exchange.disconnect()
        await exchange.finish()
        self.note("stream", "cancelled")

    async def job(self, expected: str, *, cancel: bool = False, **more: Any) -> None:
        http = await self._platform.connect(self._key)
        answer = await http.post("/api/v1/generate", json={**BODY, **more})
        if answer.status_code != 202:
            outcome = {429: "rejected_rate_limit", 503: "rejected_capacity"}.get(answer.status_code, "rejected_invalid")
            assert outcome == expected, answer.text
            self.note("async", outcome)
            return
        path = f"/api/v1/generate/{answer.json()['id']}"
        if cancel:
            await http.post(f"{path}/cancel")
        seen = (await http.get(path, headers={"Prefer": "wait=30"})).json()["state"]
        assert seen in ENDED
        outcome = {"succeeded": "completed"}.get(seen, seen)
        assert outcome == expected
        self.note("async", outcome)


async def scraped(platform: Platform, name: str) -> Counter[tuple[tuple[str, str], ...]]:
    """Sums over all replicas that are listed, read from their own ports: labels → value."""
    found: Counter[tuple[tuple[str, str], ...]] = Counter()
    async with httpx2.AsyncClient(trust_env=False, timeout=30.0) as http:
        for target in await Targets(platform.services.cache).all():
            text = (await http.get(f"http://{target.address}/metrics")).text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == name and sample.value:
                        found[tuple(sorted(sample.labels.items()))] += sample.value  # type: ignore[assignment]
    return found


async def outcomes(platform: Platform) -> Truth:
    found: Truth = Counter()
    for labels, value in (await scraped(platform, "tutti_requests_total")).items():
        of = dict(labels)
        found[of["tier"], of["mode"], of["outcome"]] += int(value)
    return found


async def events(platform: Platform) -> Counter[tuple[str, str, str]]:
    """SLI, tier and result → events."""
    found: Counter[tuple[str, str, str]] = Counter()
    for labels, value in (await scraped(platform, "tutti_sli_events_total")).items():
        of = dict(labels)
        found[of["sli"], of["tier"], of["result"]] += int(value)
    return found


async def test_counters_are_the_client_s(platform: Platform, generator: FakeGenerator) -> None:
    truth: Truth = Counter()
    pro, enterprise, free = [await Client.of(platform, tier, truth) for tier in ("pro", "enterprise", "free")]

    await asyncio.gather(*(each.stream("completed") for each in (pro, enterprise, enterprise, free)))
    await asyncio.gather(*(each.job("completed") for each in (pro, pro, enterprise)))
    await enterprise.stream("rejected_invalid", duration=10_000)
    await pro.stream("rejected_invalid", colour="red")
    await pro.stream("rejected_invalid", model="none")
    await free.job("rejected_invalid", duration=-1)

    gate = generator.hold(3)
    await asyncio.gather(pro.leave(generator), enterprise.leave(generator))
    cancelling = [asyncio.create_task(pro.job("cancelled", cancel=True)) for _ in range(2)]
    await asyncio.gather(*cancelling)
    gate.set()
    generator.gates.clear()

    generator.errors[0] = GenerationFailedError("the row broke")
    await asyncio.gather(pro.stream("failed"), pro.job("failed"), enterprise.job("failed"))
    generator.errors.clear()

    generator.hold(0)  # the free tier has 1 running and 4 queued at once
    http = await platform.connect(free._key)
    held = [await http.post("/api/v1/generate", json=BODY) for _ in range(5)]
    assert [answer.status_code for answer in held] == [202] * 5
    await free.job("rejected_rate_limit")
    for answer in held:
        await http.post(f"/api/v1/generate/{answer.json()['id']}/cancel")
        free.note("async", "cancelled")

    await eventually(lambda: _agree(platform, truth))
    assert await outcomes(platform) == truth

    found = await events(platform)
    for tier in ("free", "pro", "enterprise"):
        done, failed = ended(truth, tier, "completed"), ended(truth, tier, "failed")
        cancelled = ended(truth, tier, "cancelled")
        assert found["success", tier, "good"] == done
        assert found["success", tier, "bad"] == failed
        assert found["admission", tier, "good"] == done + failed + cancelled
        assert found["admission", tier, "bad"] == 0
        assert found["validity", tier, "good"] == done
        assert found["deadline", tier, "good"] == truth[tier, "async", "completed"]
        played = truth[tier, "stream", "completed"] + truth[tier, "stream", "cancelled"]
        assert found["ttfa", tier, "good"] + found["ttfa", tier, "bad"] == played
        assert found["continuity", tier, "good"] + found["continuity", tier, "bad"] == played


async def test_repetitions_are_no_requests(platform: Platform) -> None:
    truth: Truth = Counter()
    pro = await Client.of(platform, "pro", truth)
    http = await platform.connect(pro._key)
    key = {"Idempotency-Key": "one-and-the-same"}
    for _ in range(3):
        assert (await http.post("/api/v1/generate", json=BODY, headers={**key, "Prefer": "wait=30"})).is_success
    stream_key = {**pro.headers, "idempotency-key": "another"}
    for _ in range(2):
        exchange = Exchange(platform.app, BODY, headers=stream_key).start()
        await exchange.finish()
        assert exchange.ended_well()
    truth.update([("pro", "async", "completed"), ("pro", "stream", "completed")])
    await eventually(lambda: _agree(platform, truth))
    assert (await events(platform))["admission", "pro", "good"] == 2
    requested = await scraped(platform, "tutti_audio_requested_seconds_total")
    assert sum(requested.values()) == 2.0


async def test_what_an_erasure_cancels_is_counted(platform: Platform, generator: FakeGenerator) -> None:
    account_id = await platform.account(tier="free")
    http = await platform.connect(await platform.key(account_id))
    generator.hold(0)  # the free tier has 1 running and 4 queued at once
    for _ in range(5):
        assert (await http.post("/api/v1/generate", json=BODY)).status_code == 202
    await generator.reached[0].wait()
    await platform.services.accounts.eraser.erase(account_id)
    truth: Truth = Counter({("free", "async", "cancelled"): 5})
    await eventually(lambda: _agree(platform, truth))
    assert await outcomes(platform) == truth


class Silent(FakeGenerator):
    """Plays digital silence."""

    def _chunks(self, request: GenerationRequest) -> list[AudioChunk]:
        return [replace(each, pcm=bytes(len(each.pcm))) for each in super()._chunks(request)]


class NoNumbers(FakeGenerator):
    """What it plays are no numbers."""

    def _chunks(self, request: GenerationRequest) -> list[AudioChunk]:
        nan = np.array(np.nan, "<f4").tobytes()
        return [replace(each, pcm=nan * (len(each.pcm) // 4)) for each in super()._chunks(request)]


@pytest.mark.parametrize(("kind", "outcome"), [(Silent, "completed"), (NoNumbers, "failed")])
async def test_what_is_no_audio_is_told(make_platform: MakePlatform, kind: type[FakeGenerator], outcome: str) -> None:
    platform = await make_platform(kind(), environment="production")
    truth: Truth = Counter()
    pro = await Client.of(platform, "pro", truth)
    await asyncio.gather(pro.stream(outcome), pro.job(outcome))
    await eventually(lambda: _agree(platform, truth))
    assert await outcomes(platform) == truth

    async def is_told() -> bool:
        return (await events(platform))["validity", "pro", "bad"] == 2

    await eventually(is_told)
    found = await events(platform)
    assert found["validity", "pro", "good"] == 0
    assert found["success", "pro", "good" if outcome == "completed" else "bad"] == 2
    goodput = await scraped(platform, "tutti_audio_goodput_seconds_total")
    assert goodput.total() == 0


async def test_nothing_is_counted_of_a_tenant(platform: Platform) -> None:
    truth: Truth = Counter()
    pro = await Client.of(platform, "pro", truth)
    await pro.stream("completed")
    async with httpx2.AsyncClient(trust_env=False, timeout=30.0) as http:
        for target in await Targets(platform.services.cache).all():
            text = (await http.get(f"http://{target.address}/metrics")).text
            assert "acc_" not in text
            assert "calm piano" not in text


def ended(truth: Truth, tier: str, outcome: str) -> int:
    return truth[tier, "stream", outcome] + truth[tier, "async", outcome]


async def _agree(platform: Platform, truth: Truth) -> bool:
    """Workers write down the end of what was cancelled after the client has gone."""
    return (await outcomes(platform)).total() >= truth.total()
