"""What a worker does besides music: it clears away what nobody needs and brings what the first track would wait for."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import structlog

from api.cache.embedded import EmbeddedValkey
from api.ids import new_id
from api.settings import Settings
from api.storage.errors import StorageError, StorageUnavailableError
from api.storage.objects import object_key
from api.tasks import stop
from api.worker import create_worker
from tests.api.conftest import MakePlatform
from tests.api.generations.conftest import eventually


def orphan(folder: Path) -> Path:
    """Audio of two days ago that no row knows, where a platform of that folder keeps its audio."""
    file = folder / "audio" / object_key(new_id("acc"), "tracks", new_id("gen"), new_id("trk"))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"left by a process that died")
    before = time.time() - 2 * 86_400
    os.utime(file, (before, before))
    return file


async def test_orphaned_audio_goes(
    make_platform: MakePlatform, tmp_path: Path, log: structlog.testing.LogCapture
) -> None:
    file = orphan(tmp_path)
    await make_platform(folder=tmp_path)
    await eventually(lambda: any(entry["event"] == "swept" for entry in log.entries))
    assert [entry["removed"] for entry in log.entries if entry["event"] == "swept"] == [1]
    assert not file.exists()


async def test_what_fails_is_tried_again(
    valkey: EmbeddedValkey, sqlite_database_url: str, log: structlog.testing.LogCapture
) -> None:
    settings = Settings(redis_url=valkey.url, database_url=sqlite_database_url)
    logger: Any = structlog.wrap_logger(None, processors=[log])
    worker = create_worker({}, {}, settings, log=logger)
    outcomes: list[StorageError | int] = [StorageUnavailableError("away"), 3]

    async def chore() -> int:
        outcome = outcomes.pop(0) if outcomes else 0
        if isinstance(outcome, StorageError):
            raise outcome
        return outcome

    repeating = asyncio.create_task(worker._repeat("swept", 0.001, chore))
    await eventually(lambda: len(log.entries) >= 2)
    await stop(repeating)
    assert [(entry["event"], entry.get("removed")) for entry in log.entries[:2]] == [
        ("housekeeping_failed", None),
        ("swept", 3),
    ]


async def test_the_meter_of_loudness_is_there_before_the_first_track(
    make_platform: MakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "pyloudnorm", raising=False)
    await make_platform()
    await eventually(lambda: "pyloudnorm" in sys.modules)
