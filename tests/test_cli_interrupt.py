"""Ctrl-C on ``tutti generate --url``: a real process, a real signal, a real server; no music goes on for nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.cache.embedded import EmbeddedValkey
from api.cli_output import ExitCode
from tests.api.fakes import FakeGenerator
from tests.api.platform import TIMEOUT_S
from tests.canned import answering, refusing, sending
from tests.served import Served, serving

ROOT = Path(__file__).resolve().parents[1]
Where = Literal["request", "answer", "audio"]
START_TIMEOUT_S = 120.0  # of a process that imports, on a busy machine


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey() as server:
        yield server


@dataclass
class StuckDoor:
    """Through which the first call for music does not get.

    Attributes:
        where: it is stuck on its way in, or its answer is on the way out, or only the audio is looked at.
        is_stuck: set once the client waits.
    """

    where: Where
    is_stuck: threading.Event = field(default_factory=threading.Event)
    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        path = scope.get("path", "")
        if self.where == "audio" and path.endswith("/audio"):
            await self.app(scope, receive, self._watching(send))
        elif self.where == "audio" or path != "/api/v1/generate" or self.is_stuck.is_set():
            await self.app(scope, receive, send)
        else:
            if self.where == "answer":
                await self.app(scope, receive, self._swallow)
            self.is_stuck.set()
            while (await receive())["type"] != "http.disconnect":
                pass

    async def _swallow(self, message: Message) -> None:
        assert message["type"] != "http.response.start" or message["status"] == 202

    def _watching(self, send: Send) -> Send:
        async def sending_on(message: Message) -> None:
            await send(message)
            if message.get("body"):
                self.is_stuck.set()

        return sending_on


def start_client(url: str, output: Path, key: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "api.cli", "generate", "calm", "-o", str(output), "--url", url, "--duration", "1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TUTTI_")}
    if key:
        environment["TUTTI_API_KEY"] = key

    # Whoever runs the tests in the background may have had SIGINT ignored, and a child inherits that.
    def hear_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,  # noqa: PLW1509 one system call
    )


def the_generation(served: Served) -> dict[str, Any]:
    """The one that there is, once it has ended."""
    headers = {"Authorization": f"Bearer {served.key}"}
    with httpx2.Client(base_url=served.url, headers=headers, timeout=TIMEOUT_S + 30) as client:
        (track,) = client.get("/api/v1/audio").json()["data"]
        path = f"/api/v1/generate/{track['generation_id']}"
        found: dict[str, Any] = client.get(path, headers={"Prefer": "wait=30"}).json()
    return found


@pytest.mark.parametrize("where", ["request", "answer", "audio"])
def test_whoever_interrupts_leaves_nothing_running(valkey: EmbeddedValkey, where: Where, tmp_path: Path) -> None:
    generator = FakeGenerator()
    generator.hold(2)  # for ever: it ends only if it is cancelled
    door = StuckDoor(where)
    with serving(valkey, tmp_path, generator, door) as served:
        with start_client(served.url, tmp_path / "out.wav", served.key) as client:
            assert door.is_stuck.wait(START_TIMEOUT_S)
            client.send_signal(signal.SIGINT)
            _, said = client.communicate(timeout=TIMEOUT_S)
        assert client.returncode == ExitCode.INTERRUPTED
        assert said.splitlines()[-1] == "Interrupted."
        assert "could not be told" not in said
        assert the_generation(served)["state"] == "cancelled"
    assert not list(tmp_path.glob("*out*"))


def test_a_server_that_is_gone_cannot_be_told(tmp_path: Path) -> None:
    asked, waiting = threading.Event(), threading.Event()

    def never_answering(_: Any) -> None:
        asked.set()
        waiting.wait(START_TIMEOUT_S)

    with (
        answering(sending(b""), accept=[never_answering, refusing(500)]) as canned,
        start_client(canned.url, tmp_path / "out.wav") as client,
    ):
        assert asked.wait(START_TIMEOUT_S)
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=TIMEOUT_S)
        waiting.set()
    assert client.returncode == ExitCode.INTERRUPTED
    assert "may be making the music now" in said
    assert len({headers["idempotency-key"] for headers in canned.headers}) == 1
