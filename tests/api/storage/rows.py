"""Accounts, generations and stored tracks as rows, for tests of what reads them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import insert

from api.clock import utc_now
from api.ids import new_id
from api.storage.audio import AudioLibrary
from api.store.database import Database
from api.store.schema import accounts, generations, tracks
from tests.api.fakes import SAMPLE_RATE


async def add_account(db: Database) -> str:
    account_id = new_id("acc")
    async with db.begin() as conn:
        await conn.execute(insert(accounts).values(id=account_id, created_at=utc_now()))
    return account_id


async def add_generation(db: Database, account_id: str, *, created_at: datetime | None = None, **values: Any) -> str:
    now = created_at or utc_now()
    row = {
        "id": new_id("gen"), "account_id": account_id, "request_id": new_id("req"), "state": "succeeded",
        "mode": "async", "tier": "free", "model_id": "tiny", "prompt": "calm piano", "duration_s": 1.0,
        "num_tracks": 1, "seed": 7, "sampling": {}, "format": "wav", "cost_steps": 50, "created_at": now,
        "available_at": now, "expires_at": now, "deadline_at": now, **values,
    }  # fmt: skip
    async with db.begin() as conn:
        await conn.execute(insert(generations).values(row))
    return str(row["id"])


async def add_track(
    db: Database,
    account_id: str,
    *,
    library: AudioLibrary | None = None,
    samples: npt.NDArray[np.float32] | None = None,
    created_at: datetime | None = None,
    state: str = "succeeded",
    generation_id: str | None = None,
    **values: Any,
) -> str:
    """A track of a generation of its own; with samples it has succeeded and its audio is stored."""
    now = created_at or utc_now()
    generation_id = generation_id or await add_generation(db, account_id, created_at=now, state=state)
    track_id = new_id("trk")
    stored: dict[str, Any] = {}
    if library is not None and samples is not None:
        channels = samples.shape[1]
        audio = await library.store(account_id, generation_id, track_id, 1, samples.tobytes(), SAMPLE_RATE, channels)
        stored = {
            "object_key": audio.object_key, "sha256": audio.sha256, "sample_rate": SAMPLE_RATE, "channels": channels,
            "total_samples": audio.total_samples, "loudness_lufs": audio.loudness_lufs, "peak": audio.peak,
            "peaks": audio.peaks, "finished_at": now,
        }  # fmt: skip
    row = {
        "id": track_id, "generation_id": generation_id, "account_id": account_id, "position": 0, "seed": 7,
        "state": state, "model_id": "tiny", "prompt": "calm piano", "metadata": {}, "created_at": now,
        **stored, **values,
    }  # fmt: skip
    async with db.begin() as conn:
        await conn.execute(insert(tracks).values(row))
    return track_id
