"""``tutti serve``: the platform in one process tree, from its start to a drained stop."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from api.cli_output import stderr, usage_error
from api.settings import Settings, SettingsError
from deployments import platform
from deployments.serve_config import DEFAULT_CONFIG, PlatformError, load_config

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EXAMPLE_PROMPT = "calm piano in C major, slow, no drums"


def serve(
    config: Annotated[Path, typer.Option(help="The Serve config.", dir_okay=False)] = DEFAULT_CONFIG,
    port: Annotated[int, typer.Option(help="TCP port to listen on.", min=1, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
) -> None:
    """Serve the models of the Serve config over HTTP until Ctrl-C, which drains and stops."""
    try:
        Settings()
        load_config(config)
    except (SettingsError, PlatformError) as error:
        raise usage_error(str(error)) from error
    with stderr.status("Starting (Ray, then the models) …"):
        running = platform.start(config, port=port, host=host)
    try:
        typer.echo(banner(running.url))
        if host not in LOOPBACK:
            stderr.print(
                f"Everybody who reaches {host}:{port} may make music: put a proxy that asks who it is before it."
            )
        wait_for_stop()
        stderr.print("Draining: streams in flight end, new ones are refused. Once more to stop at once.")
    finally:
        running.stop()
    stderr.print("Stopped.")


def banner(url: str) -> str:
    """The last thing the start says: the address, and a line to try it with."""
    body = f'{{"prompt": "{EXAMPLE_PROMPT}", "duration": 10}}'
    return (
        f"\nTutti is ready: {url}\n\n"
        "Open it in a browser, or:\n\n"
        f"  curl -N {url}/api/v1/generate/stream -H 'Content-Type: application/json' \\\n"
        f"       -d '{body}' -o music.wav\n"
    )


def wait_for_stop() -> None:
    """Return at the first SIGINT or SIGTERM; from then on the next one interrupts whatever runs."""
    stop = threading.Event()

    def on_signal(_signum: int, _frame: FrameType | None) -> None:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.default_int_handler)
        stop.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, on_signal)
    stop.wait()
