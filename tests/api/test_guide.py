"""The API guide does what it says: its blocks run in order, in one shell, against a real server."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from api.cache.embedded import EmbeddedValkey
from tests.api.conftest import Serve
from tests.api.platform import start

GUIDE = Path(__file__).resolve().parents[2] / "api" / "GUIDE.md"
TIMEOUT_S = 120.0
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def script(text: str) -> str:
    """All blocks of the guide as one shell script; Python blocks are programs of their own."""
    parts = ["set -euo pipefail"]
    for number, (language, block) in enumerate(_BLOCK.findall(text)):
        program = f"{sys.executable} - <<'BLOCK_{number}'\n{block}BLOCK_{number}\n"
        parts += [f"echo '--- block {number}'", program if language == "python" else block]
    return "\n".join(parts)


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("curl")), reason="needs curl and jq")
async def test_every_block_of_the_guide_runs(
    serve: Serve, sqlite_database_url: str, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert len(_BLOCK.findall(text)) >= 8
    running = start(
        database_url=sqlite_database_url, redis_url=valkey.url, folder=tmp_path / "data", environment="development"
    )
    async with running as platform, serve(platform.app) as url:
        shell = await asyncio.create_subprocess_exec(
            "bash",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
            env={**os.environ, "TUTTI": url},
        )
        async with asyncio.timeout(TIMEOUT_S):
            said, _ = await shell.communicate(script(text).encode())
    assert shell.returncode == 0, said.decode()
    assert (tmp_path / "music.wav").stat().st_size == 44 + 2 * 2 * 32_000
    assert (tmp_path / "header.bin").read_bytes()[:4] == b"RIFF"
