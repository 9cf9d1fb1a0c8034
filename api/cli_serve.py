"""``tutti serve``: the platform in one process tree, from its start to a drained stop."""

from __future__ import annotations

import ipaddress
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from api.cli_output import stderr, usage_error
from api.settings import Settings, SettingsError
from deployments import platform
from deployments.serve_config import DEFAULT_CONFIG, PlatformError, load_config

EXAMPLE_PROMPT = "calm piano in C major, slow, no drums"


def serve(
    config: Annotated[Path, typer.Option(help="The Serve config.", dir_okay=False)] = DEFAULT_CONFIG,
    port: Annotated[int, typer.Option(help="TCP port to listen on.", min=1, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
) -> None:
    """Serve the models of the Serve config over HTTP until Ctrl-C, which drains and stops.

    What it keeps (database, audio, and in development its secrets) lies in TUTTI_DATA_DIR, by default data/ in the
    repository. Without TUTTI_REDIS_URL it runs a Valkey of its own, which holds nothing that may not be lost.
    """
    from api.local_services import local_services

    try:
        settings = Settings()
        load_config(config)
    except (SettingsError, PlatformError) as error:
        raise usage_error(str(error)) from error
    _refuse_open_doors(host, settings)
    platform.require_free(host, port)  # before anything is made
    with ExitStack() as running:
        try:
            with stderr.status("Starting (database, cache, Ray, then the models) …"):
                running.enter_context(local_services(settings))
                started = platform.start(config, port=port, host=host)
                running.callback(started.stop)
        except SettingsError as error:
            raise usage_error(str(error)) from error
        typer.echo(banner(started.url))
        if not _is_loopback(host):
            stderr.print(f"Keys and audio travel in the clear: put a proxy with TLS before {host}:{port}.")
        wait_for_stop()
        stderr.print("Draining: streams in flight end, new ones are refused. Once more to stop at once.")
    stderr.print("Stopped.")


def _refuse_open_doors(host: str, settings: Settings) -> None:
    """In development a request without credentials is a local account: nobody else may reach it.

    Raises:
        CliError: the address lets others in.
    """
    if settings.environment == "development" and not _is_loopback(host):
        raise usage_error(
            f"on {host} others could come in, and in development nobody needs an account: set "
            "TUTTI_ENVIRONMENT=production (it says what it needs), or listen on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
