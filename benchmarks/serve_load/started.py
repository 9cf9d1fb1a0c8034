"""``--start``: the platform as ``tutti serve`` starts it, on a free port, with accounts of every tier; gone afterwards.

In production mode, so that accounts have keys and tiers. The tiers keep their waits, shares and deadlines; what one
account may ask for in an hour is lifted, because it is the platform that is measured.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import yaml

from api.cache.embedded import EmbeddedValkey
from api.cli_output import CliError
from api.limits.tiers import TIERS_FILE
from api.store.database import migrate
from benchmarks.api.platform import (
    UNLIMITED,
    make_environment,
    make_keys,
    settings_of,
    start_process,
    until_ready,
)

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_000)
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 90.0


@contextmanager
def started(config: Path | None, accounts: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Its address, and pairs of a tier and a key.

    Args:
        config: a Serve config; None: the repository's.
        accounts: of each tier.

    Raises:
        CliError: it did not become ready; the message holds the end of its log.
    """
    with ExitStack() as stack:
        # Whoever ends this run ends the platform as well.
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _leave))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tutti-load-")))
        valkey = stack.enter_context(EmbeddedValkey())
        tiers = list(yaml.safe_load(TIERS_FILE.read_text(encoding="utf-8"))["tiers"])
        environment = make_environment(folder, valkey.url, dict.fromkeys(tiers, UNLIMITED))
        keys = asyncio.run(_keys(environment, tiers, accounts))
        port = _free_port()
        command = [sys.executable, "-m", "api.cli", "serve", "--host", HOST, "--port", str(port)]
        command += [] if config is None else ["--config", str(config.resolve())]
        process = stack.enter_context(start_process(command, environment, folder, None, STOP_TIMEOUT_S))
        try:
            asyncio.run(until_ready(port, {"tutti serve": process}, folder, START_TIMEOUT_S))
        except RuntimeError as error:
            raise CliError(str(error), "not_ready") from error
        yield f"http://{HOST}:{port}", keys


async def _keys(environment: dict[str, str], tiers: list[str], accounts: int) -> list[tuple[str, str]]:
    settings = settings_of(environment)
    await migrate(settings.database_url)
    return [(tier, key) for tier in tiers for key in await make_keys(settings, tier, accounts)]


def _leave(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def _free_port() -> int:
    """Free a moment ago, and not one of those that the kernel gives to whoever asks for any, as Ray's processes do."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
