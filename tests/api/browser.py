"""A real Chromium, driven over its DevTools protocol: as much of it as the page's tests need."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT_S = 20.0
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--autoplay-policy=no-user-gesture-required",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab. Waiting happens inside the page, on its own frames; every wait is bounded."""

    def __init__(self, socket: ClientConnection, session_id: str) -> None:
        self._socket = socket
        self._session_id = session_id
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: dict[str, list[Callable[[dict[str, Any]], None]]] = {}
        self._reader = asyncio.create_task(self._read())
        self.complaints: list[str] = []
        self.requested: list[str] = []

    async def __aenter__(self) -> Page:
        self.on("Runtime.exceptionThrown", lambda e: self.complaints.append(str(e["exceptionDetails"])))
        self.on("Log.entryAdded", lambda e: self.complaints.append(str(e["entry"])))
        self.on("Network.requestWillBeSent", lambda e: self.requested.append(e["request"]["url"]))
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One protocol command, awaited."""
        number = next(self._ids)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params, "sessionId": self._session_id}
        await self._socket.send(json.dumps(message))
        async with asyncio.timeout(TIMEOUT_S):
            answer = await waiting
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def on(self, event: str, listener: Callable[[dict[str, Any]], None]) -> None:
        self._events.setdefault(event, []).append(listener)

    async def open(self, url: str) -> None:
        loaded = asyncio.Event()
        self.on("Page.loadEventFired", lambda _: loaded.set())
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(TIMEOUT_S):
            await loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def wait_for(self, condition: str) -> None:
        """Until a JavaScript condition holds; the page looks once per frame."""
        look = f"const look = () => ({condition}) ? resolve(true) : requestAnimationFrame(look); look();"
        try:
            await self.evaluate(f"new Promise((resolve) => {{ {look} }})")
        except TimeoutError:
            status = await self.evaluate("document.getElementById('status').textContent")
            raise AssertionError(f"never true: {condition}; the page says {status!r}") from None

    async def text(self, selector: str) -> str:
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))

    async def click(self, selector: str) -> None:
        """A real click in the middle of an element."""
        found = f"document.querySelector({json.dumps(selector)})"
        box = await self.evaluate(
            f"(() => {{ {found}.scrollIntoView({{block: 'nearest'}}); const b = {found}.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    async def write(self, text: str) -> None:
        """Text into whatever has the focus."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, code: int, *, modifiers: int = 0) -> None:
        """One key, by name and Windows key code; modifiers: 1 Alt, 2 Ctrl, 4 Meta, 8 Shift."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                modifiers=modifiers,
                text=text if kind == "keyDown" and not modifiers else "",
            )

    async def picture(self) -> bytes:
        """The whole page as a PNG."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    async def _read(self) -> None:
        async for raw in self._socket:
            message = json.loads(raw)
            waiting = self._waiting.pop(message.get("id"), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
            for listener in self._events.get(message.get("method", ""), []):
                listener(message["params"])


@asynccontextmanager
async def chromium(program: str, folder: Path) -> AsyncIterator[Page]:
    """A new browser with a new profile in ``folder``, and one empty tab. It ends with the block."""
    process = await asyncio.create_subprocess_exec(
        program, *_FLAGS, f"--user-data-dir={folder}", "about:blank",
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(TIMEOUT_S):
            address = await _address(process)
        async with (
            connect(address, max_size=_MAX_MESSAGE_BYTES, proxy=None) as socket,
            Page(socket, await _new_tab(socket)) as page,
        ):
            yield page
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    seen = []
    async for line in process.stderr:
        seen.append(line.decode(errors="replace"))
        found = re.search(r"DevTools listening on (ws://\S+)", seen[-1])
        if found:
            return found[1]
    raise RuntimeError(f"Chromium did not start: {''.join(seen)}")


async def _new_tab(socket: ClientConnection) -> str:
    async def call(number: int, method: str, **params: Any) -> dict[str, Any]:
        await socket.send(json.dumps({"id": number, "method": method, "params": params}))
        async for raw in socket:
            message: dict[str, Any] = json.loads(raw)
            if message.get("id") == number:
                return message
        raise RuntimeError("Chromium closed the connection")

    target = await call(-1, "Target.createTarget", url="about:blank")
    attached = await call(-2, "Target.attachToTarget", targetId=target["result"]["targetId"], flatten=True)
    return str(attached["result"]["sessionId"])
