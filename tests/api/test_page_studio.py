"""The page as a studio: sound to start from, variations, earlier tracks, and what was going on before a reload."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from models.types import AudioPrompt
from tests.api.browser import Page
from tests.api.conftest import MakePlatform, Serve
from tests.api.fakes import SAMPLE_RATE, FakeGenerator, sine
from tests.api.visitor import STATE, bring, choose, compose, downloaded, visit

PROMPT = "calm piano, slow"
DRAWN = "document.querySelectorAll('[data-sketch=drawn]').length"
MELODY = "document.querySelector('#melody').closest('.source')"
BEGINNING = "document.querySelector('#continuation').closest('.source')"

pytestmark = pytest.mark.browser


@pytest.fixture
async def app(make_platform: MakePlatform, generator: FakeGenerator, melody_generator: FakeGenerator) -> FastAPI:
    """Two models: tiny goes on from music, small follows melodies as well."""
    app = (await make_platform(generator, melody_generator)).app
    services = app.state.services
    for known in (services.models, services.generations._models):
        known.update({name: replace(spec, goes_on_from_audio=True) for name, spec in known.items()})
        known["small"] = replace(known["small"], takes_melody=True, max_duration_s=60.0)
    return app


@pytest.fixture
def melody_generator() -> FakeGenerator:
    return FakeGenerator()


@pytest.fixture
async def page(app: FastAPI, serve: Serve, tmp_path: Path) -> AsyncIterator[Page]:
    """So tall that everything is seen: pictures of tracks are fetched when they are."""
    async with visit(serve, app, tmp_path) as tab:
        await tab.call("Emulation.setDeviceMetricsOverride", width=1000, height=3000, deviceScaleFactor=1, mobile=False)
        yield tab


async def press(page: Page, action: str, row: int = 0) -> None:
    await page.evaluate(f"document.querySelectorAll('.row')[{row}].querySelector('[data-act={action}]').click()")


async def value(page: Page, field: str) -> Any:
    return await page.evaluate(f"document.getElementById({json.dumps(field)}).value")


async def test_a_melody_is_brought_where_a_model_takes_one(
    page: Page, melody_generator: FakeGenerator, tmp_path: Path
) -> None:
    assert await page.evaluate("document.getElementById('melody').disabled")
    assert await page.text("#melody-hint") == "tiny can not follow a melody; small can."
    assert await page.evaluate("document.getElementById('style').closest('.source').hidden")
    await choose(page, "model", "small")
    await choose(page, "duration", "40")
    assert not await page.evaluate("document.getElementById('extend_stride').disabled")
    await choose(page, "duration", "30")
    assert await page.evaluate("document.getElementById('extend_stride').disabled")
    assert page.complaints == []
    (tmp_path / "broken.wav").write_bytes(b"RIFF, or so it says")
    await bring(page, "melody", tmp_path / "broken.wav")
    await page.wait_for("!document.getElementById('melody-error').hidden")
    assert await page.text("#notice-text") == await page.text("#melody-error") != ""
    assert (await page.text("#notice-id")).startswith("req_")
    assert await page.evaluate("document.activeElement.id === 'melody'")
    soundfile.write(tmp_path / "humming.wav", sine(5, SAMPLE_RATE), SAMPLE_RATE)
    await bring(page, "melody", tmp_path / "humming.wav")
    await page.wait_for(f"{MELODY}.dataset.state === 'chosen'")
    assert "humming.wav" in await page.evaluate(f"{MELODY}.querySelector('.chosen').textContent")
    soundfile.write(tmp_path / "long.wav", sine(5, 31 * 8_000), 8_000)
    await bring(page, "continuation", tmp_path / "long.wav")
    await page.wait_for(f"{BEGINNING}.dataset.state === 'chosen'")
    await compose(page, PROMPT, duration="40")
    await page.wait_for("!document.getElementById('continuation-error').hidden")
    assert "at most 30 s" in await page.text("#continuation-error")
    assert await page.evaluate(f"{BEGINNING}.contains(document.activeElement)")
    await page.evaluate("document.activeElement.click()")
    assert await page.evaluate(f"{BEGINNING}.dataset.state === 'empty'")
    await choose(page, "duration", "1")
    await choose(page, "guidance_beta", "2")
    await page.click("#generate")
    await page.wait_for(f"{STATE} === 'done'")
    melody = melody_generator.requests[0].melody
    assert isinstance(melody, AudioPrompt)
    assert melody.num_samples == SAMPLE_RATE
    assert melody_generator.requests[0].sampling.guidance_beta == 2


async def test_variations_are_played_kept_used_and_made_again(
    page: Page, generator: FakeGenerator, melody_generator: FakeGenerator, tmp_path: Path
) -> None:
    await compose(page, PROMPT, duration="1", num_tracks="2", seed="9223372036854775800")
    await page.wait_for(f"{STATE} === 'done' && {DRAWN} === 2")
    assert sorted(request.seed for request in generator.requests) == [2**63 - 8, 2**63 - 7]
    await page.evaluate("document.querySelectorAll('.row [data-part=play]')[1].click()")
    await page.wait_for(f"{STATE} === 'done' && document.getElementById('fact-seed').textContent.endsWith('801')")
    assert await page.text("#title-aside") == "variation 2 of 2"
    await press(page, "download", 1)
    await choose(page, "export-format", "flac24")
    kept = await downloaded(page, tmp_path, "#export-save")
    assert kept.name == "tutti-tiny-9223372036854775801.flac"
    assert soundfile.info(kept).subtype == "PCM_24"
    await press(page, "use-as-melody", 0)
    assert await value(page, "model") == "small"
    await press(page, "extend", 1)
    assert "variation 2" in await page.evaluate(f"{BEGINNING}.querySelector('.chosen').textContent")
    assert await value(page, "duration") == "2"
    await choose(page, "num_tracks", "1")
    await page.click("#generate")
    await page.wait_for("document.querySelectorAll('.row').length === 3 && " + f"{DRAWN} === 3")
    made = melody_generator.requests[0]
    assert made.melody is not None
    assert made.continues is not None
    await press(page, "same-again", 1)
    await page.wait_for("document.getElementById('model').value === 'tiny'")
    assert [await value(page, name) for name in ("prompt", "duration", "seed")] == [PROMPT, "1", "9223372036854775800"]
    assert await page.evaluate(f"{MELODY}.dataset.state === 'empty' && {BEGINNING}.dataset.state === 'empty'")
    await press(page, "remove", 2)
    await press(page, "remove", 2)
    await page.wait_for("document.querySelectorAll('.row').length === 2")
    assert page.complaints == []


async def test_what_was_going_on_is_found_again_after_a_reload(page: Page, generator: FakeGenerator) -> None:
    gate = generator.hold(6)
    await compose(page, PROMPT, duration="3", num_tracks="2", seed="4")
    await page.wait_for("document.getElementById('fact-made').textContent.startsWith('1.4')")
    await page.open(str(await page.evaluate("location.href")))
    await page.wait_for("document.getElementById('fact-made').textContent.startsWith('1.4')")
    await page.wait_for("document.querySelector('.take [data-part=state]').textContent.startsWith('Being made')")
    gate.set()
    await page.wait_for(f"{STATE} === 'done' && {DRAWN} === 2")
    assert await page.text("#fact-seed") == "4"
    assert await page.evaluate("document.querySelector('.take [data-part=live]').hidden")
    assert (generator.started, page.complaints) == (2, [])


async def test_a_line_that_breaks_is_taken_up_again_at_the_same_sample(
    app: FastAPI, generator: FakeGenerator, serve: Serve, tmp_path: Path
) -> None:
    cuts = [0.7]

    async def cutting(scope: Scope, receive: Receive, send: Send) -> None:
        """The application behind a line that breaks once, in the middle of a sample."""
        if scope["type"] != "http" or not scope["path"].endswith("/generate/stream") or not cuts:
            await app(scope, receive, send)
            return
        left = int(cuts.pop() * SAMPLE_RATE) * 2 + 1

        async def until_it_breaks(message: Any) -> None:
            nonlocal left
            body = message.get("body", b"")
            if len(body) > left:
                await send({**message, "body": body[:left], "more_body": True})
                raise ConnectionAbortedError
            left -= len(body)
            await send(message)

        await app(scope, receive, until_it_breaks)

    async with visit(serve, cutting, tmp_path) as page:
        await compose(page, PROMPT, duration="2", seed="6")
        await page.wait_for(f"{STATE} === 'done'")
        samples, _ = soundfile.read(await downloaded(page, tmp_path), dtype="int16")
        assert (samples == (sine(6, 2 * SAMPLE_RATE)[:, 0] * 32767).round()).all()
        assert (generator.started, cuts) == (1, [])
