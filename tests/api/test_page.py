"""The page at / as a visitor meets it: its files, and the page itself in a real Chromium."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
import soundfile
from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from api.errors import ApiError, ErrorCode, error_response
from api.routes.web import WEB_FOLDER
from models.errors import GenerationFailedError
from tests.api.asgi import STREAM
from tests.api.browser import Page
from tests.api.conftest import MakePlatform, Serve
from tests.api.fakes import SAMPLE_RATE, FakeGenerator, sine
from tests.api.visitor import STATE, compose, downloaded, visit

FILES = sorted(path.name for path in WEB_FOLDER.iterdir())
PROMPT = "calm piano, slow"
BUTTON = "document.getElementById('play').getAttribute('aria-label')"
POSITION = "parseFloat(document.getElementById('wave').getAttribute('aria-valuenow'))"


async def test_files_are_served_and_cached_by_their_content(client: httpx2.AsyncClient) -> None:
    for name in set(FILES) - {"index.html"}:
        answer = await client.get(f"/web/{name}")
        assert answer.content == (WEB_FOLDER / name).read_bytes()
        again = await client.get(f"/web/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await client.head(f"/web/{name}")).status_code == 200


def test_nothing_is_asked_of_a_third_party() -> None:
    for name in FILES:
        text = (WEB_FOLDER / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.[a-z]|@import|url\(", text), name


def test_every_module_is_fetched_at_once_and_not_one_after_the_other() -> None:
    page = (WEB_FOLDER / "index.html").read_text(encoding="utf-8")
    modules = {name for name in FILES if name.endswith(".js")}
    assert set(re.findall(r'"modulepreload" href="web/([^"]+)"', page)) == modules - {"app.js"}


def test_every_field_has_a_label_and_every_button_a_name() -> None:
    page = (WEB_FOLDER / "index.html").read_text(encoding="utf-8")
    fields = re.findall(r'<(?:input|select|textarea)[^>]*id="([^"]+)"', page)
    wrapped = re.findall(r"<label[^>]*><input[^>]*id=\"([^\"]+)\"", page)
    named = re.findall(r'<input[^>]*id="([^"]+)"[^>]*aria-label="', page)
    assert all(f'for="{field}"' in page or field in {*wrapped, *named} for field in fields)
    buttons = re.findall(r"<button([^>]*)>(.*?)</button>", page, re.DOTALL)
    # Those of a list's rows are named after their track when they are made.
    nameless = [a for a, text in buttons if "aria-label" not in a and not re.sub(r"<[^>]+>", "", text).strip()]
    assert all('data-part="play"' in attributes for attributes in nameless)


@pytest.fixture
async def page(app: FastAPI, serve: Serve, tmp_path: Path) -> AsyncIterator[Page]:
    async with visit(serve, app, tmp_path) as tab:
        yield tab


@pytest.mark.browser
async def test_music_plays_while_it_is_made_and_can_be_kept(
    page: Page, generator: FakeGenerator, tmp_path: Path
) -> None:
    gate = generator.hold(6)
    await compose(page, PROMPT, duration="3", seed="11")
    await page.wait_for(f"{STATE} === 'streaming' && {POSITION} > 0.2")
    assert not gate.is_set()
    assert "1.4 of 3.0 s" in await page.text("#fact-made")
    assert await page.evaluate(BUTTON) == "Pause"
    painted = "document.getElementById('canvas').getContext('2d').getImageData(20, 0, 200, 300).data.some(Boolean)"
    assert await page.evaluate(painted)
    gate.set()
    await page.wait_for(f"{STATE} === 'done'")
    assert "3.0 s of music" in await page.text("#status")
    assert await page.text("#fact-seed") == "11"
    kept = await downloaded(page, tmp_path)
    assert kept.name == "tutti-tiny-11.wav"
    samples, rate = soundfile.read(kept, dtype="int16", always_2d=True)
    assert rate == SAMPLE_RATE
    assert np.array_equal(samples, np.rint(sine(11, 3 * SAMPLE_RATE) * 32767).astype("<i2"))
    assert page.complaints == []
    assert generator.requests[0].prompt == PROMPT


@pytest.mark.browser
async def test_it_plays_to_the_end_and_again_from_anywhere(page: Page) -> None:
    await compose(page, PROMPT, duration="1")
    await page.wait_for(f"{STATE} === 'done' && {POSITION} >= 1 && {BUTTON} === 'Play'")
    await page.evaluate("document.getElementById('wave').focus()")
    await page.press("Home", 36)
    await page.wait_for(f"{POSITION} === 0")
    await page.press(" ", 32)
    await page.wait_for(f"{POSITION} > 0.1")
    await page.press(" ", 32)
    await page.wait_for(f"{BUTTON} === 'Play'")
    assert await page.evaluate("document.getElementById('stage').dataset.stalls") == "0"
    assert page.complaints == []


@pytest.mark.browser
async def test_stop_frees_the_rows_and_keeps_what_came(page: Page, generator: FakeGenerator, tmp_path: Path) -> None:
    generator.hold(4)
    await compose(page, PROMPT, duration="5")
    await page.wait_for("document.getElementById('fact-made').textContent.startsWith('1.0')")
    await page.press("Escape", 27)
    async with asyncio.timeout(10):
        await generator.was_closed.wait()
    await page.wait_for(f"{STATE} === 'stopped'")
    assert await page.text("#status") == "1.0 s arrived."
    assert (await downloaded(page, tmp_path)).stat().st_size == 44 + 2 * SAMPLE_RATE
    assert not await page.evaluate("document.getElementById('generate').disabled")
    generator.hold(0)
    generator.was_closed.clear()
    await page.click("#generate")
    async with asyncio.timeout(10):
        await generator.reached[0].wait()
    await page.click("#stop")  # before there is a note, or an answer
    async with asyncio.timeout(10):
        await generator.was_closed.wait()
    assert await page.text("#status") == "Stopped before the first note."


@pytest.mark.browser
async def test_a_generation_that_fails_is_said_plainly(page: Page, generator: FakeGenerator) -> None:
    gate = generator.hold(4)
    generator.errors[4] = GenerationFailedError("the row broke")
    await compose(page, PROMPT, duration="5", seed="3")
    await page.wait_for("document.getElementById('fact-made').textContent.startsWith('1.0')")
    gate.set()
    await page.wait_for(f"{STATE} === 'cut' && !document.getElementById('notice').hidden")
    assert await page.text("#notice-title") == "The music stopped"
    assert "generation_failed" in await page.text("#notice-code")
    assert (await page.text("#notice-id")).startswith("req_")
    assert await page.text("#status") == "1.0 s arrived."
    assert not await page.evaluate("document.getElementById('download').hidden")


@pytest.mark.browser
async def test_refusals_carry_the_servers_advice(page: Page) -> None:
    await compose(page, "", seed="seven")
    await page.wait_for("!document.getElementById('prompt-error').hidden")
    assert "say it in a few words" in await page.text("#prompt-error")
    assert await page.text("#seed-error") == "Input should be a valid integer"
    assert await page.evaluate("document.activeElement.id") == "prompt"
    await page.evaluate("document.getElementById('seed').value = ''")
    await page.write(PROMPT)
    await page.press("Enter", 13, modifiers=2)
    await page.wait_for(f"{STATE} === 'streaming' || {STATE} === 'done'")
    assert await page.evaluate("document.getElementById('prompt-error').hidden")


@pytest.mark.browser
async def test_a_full_server_says_how_long_to_wait(app: FastAPI, serve: Serve, tmp_path: Path) -> None:
    refusals = [ApiError(ErrorCode.SYSTEM_OVERLOADED, retry_after_s=1.0)]

    async def full_at_first(scope: Scope, receive: Receive, send: Send) -> None:
        """The application, before which stands a server that has no room for the first request."""
        if scope["type"] == "http" and scope["path"] == STREAM and refusals:
            request = Request({**scope, "state": {"request_id": "req_1"}})
            await error_response(request, refusals.pop())(scope, receive, send)
            return
        await app(scope, receive, send)

    async with visit(serve, full_at_first, tmp_path) as page:
        await compose(page, PROMPT, duration="1")
        await page.wait_for("!document.getElementById('notice').hidden")
        assert "Try again in 1 s" in await page.text("#notice-text")
        assert "system_overloaded" in await page.text("#notice-code")
        assert await page.text("#notice-id") == "req_1"
        again = "document.getElementById('notice-again')"
        assert await page.evaluate(f"{again}.disabled && {again}.textContent.startsWith('Try again in')")
        await page.wait_for(f"!{again}.disabled")
        await page.click("#notice-again")
        await page.wait_for(f"{STATE} === 'streaming' || {STATE} === 'done'")
        assert await page.evaluate("document.getElementById('notice').hidden")


@pytest.mark.browser
async def test_stereo_and_a_seed_beyond_a_browsers_integers(
    make_platform: MakePlatform, serve: Serve, tmp_path: Path
) -> None:
    generator = FakeGenerator(channels=2, chunk_s=0.13)
    app = (await make_platform(generator)).app
    async with visit(serve, app, tmp_path) as page:
        await compose(page, PROMPT, duration="1", seed="9223372036854775807")
        await page.wait_for(f"{STATE} === 'done'")
        assert generator.requests[0].seed == 2**63 - 1
        samples, _ = soundfile.read(await downloaded(page, tmp_path), dtype="int16", always_2d=True)
        assert np.array_equal(samples, np.rint(sine(2**63 - 1, SAMPLE_RATE, 2) * 32767).astype("<i2"))


@pytest.mark.browser
async def test_a_server_that_wants_a_key_is_given_one(
    make_platform: MakePlatform, serve: Serve, tmp_path: Path
) -> None:
    platform = await make_platform(FakeGenerator(), environment="production")
    key = await platform.key(await platform.account())
    value = "document.getElementById('api_key').value"
    async with visit(serve, platform.app, tmp_path) as page:
        await page.wait_for("!document.getElementById('key').hidden")
        assert page.complaints == []
        await compose(page, PROMPT, duration="1")
        await page.wait_for("document.activeElement.id === 'api_key'")
        assert "credential" in await page.text("#api_key-error")
        await page.write(key)
        await page.click("#generate")
        await page.wait_for(f"{STATE} === 'done'")
        await page.open(str(await page.evaluate("location.href")))
        await page.wait_for(f"{value} === {json.dumps(key)}")
        assert await page.evaluate("Object.keys(localStorage).length === 0 && document.cookie === ''")
        assert not [address for address in page.requested if key in address]
