"""What a visitor of the page does: open it, fill in the form, bring a file, keep one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from tests.api.browser import TIMEOUT_S, Page, chromium, find_chromium
from tests.api.conftest import Serve

STATE = "document.getElementById('stage').dataset.state"
READY = "document.getElementById('model').value === 'tiny'"


@asynccontextmanager
async def visit(serve: Serve, app: ASGIApp, folder: Path) -> AsyncIterator[Page]:
    """The page of a served application in a browser of its own, once it knows the models; nobody else is asked."""
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    async with serve(app) as url, chromium(program, folder / "profile") as page:
        await page.open(f"{url}/")
        await page.wait_for(READY)
        yield page
        assert all(address.startswith((url, "blob:", "about:")) for address in page.requested)


async def compose(page: Page, prompt: str, **fields: str) -> None:
    """Fill in the form as a visitor would and press Generate."""
    await page.click("#prompt")
    await page.write(prompt)
    if fields.keys() - {"duration", "num_tracks"}:
        await page.click("summary")
    for name, value in fields.items():
        if name in {"duration", "num_tracks"}:  # set by a slider and a list, which are not typed into
            await choose(page, name, value)
        else:
            await page.click(f"#{name}")
            await page.write(value)
    await page.click("#generate")


async def choose(page: Page, field: str, value: str) -> None:
    """Set a field, and tell the page as a visitor's hand does."""
    await page.evaluate(
        f"(() => {{ const field = document.getElementById({json.dumps(field)}); field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input')); field.dispatchEvent(new Event('change')); })()"
    )


async def bring(page: Page, field: str, file: Path) -> None:
    """Choose a file in a file input."""
    root = (await page.call("DOM.getDocument"))["root"]["nodeId"]
    node = (await page.call("DOM.querySelector", nodeId=root, selector=f"#{field}"))["nodeId"]
    await page.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)


async def downloaded(page: Page, folder: Path, link: str = "#download") -> Path:
    """Click what downloads and wait until the browser has written the file."""
    ended = asyncio.Event()
    names: list[str] = []
    page.on("Browser.downloadWillBegin", lambda event: names.append(event["suggestedFilename"]))
    page.on("Browser.downloadProgress", lambda event: ended.set() if event["state"] == "completed" else None)
    await page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)
    await page.click(link)
    async with asyncio.timeout(TIMEOUT_S):
        await ended.wait()
    return folder / names[-1]
