"""Compares what clients were told with what the platform wrote down: nothing lost, nothing made twice.

Every function returns its findings as sentences; an empty list is the proof. The promises are those of the API: see
"Durability" in the API guide.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence

import httpx2
import numpy as np
import soundfile
from sqlalchemy import RowMapping, select

from api.store.database import Database
from api.store.schema import generations, tracks, usage_windows
from tests.crash.clients import Observed
from tests.crash.receiver import Receiver

TERMINAL = {"succeeded", "failed", "cancelled", "expired"}
Rows = Sequence[RowMapping]


async def read_books(db: Database) -> tuple[Rows, Rows, Rows]:
    """Every generation, track and usage counter."""
    async with db.read() as conn:
        made = (await conn.execute(select(generations))).mappings().all()
        parts = (await conn.execute(select(tracks))).mappings().all()
        used = (await conn.execute(select(usage_windows))).mappings().all()
    return made, parts, used


def accepted_is_kept(observed: Observed, made: Rows) -> list[str]:
    """Every accepted generation exists, once per key, and has come to an end."""
    states = {row["id"]: row["state"] for row in made}
    found = [f"key {key} made {len(ids)} generations" for key, ids in observed.accepted.items() if len(ids) > 1]
    for generation_id in {each for ids in observed.accepted.values() for each in ids}:
        if generation_id not in states:
            found.append(f"{generation_id} was accepted and is lost")
        elif states[generation_id] not in TERMINAL:
            found.append(f"{generation_id} is still {states[generation_id]}")
    keys = len(observed.accepted)
    # A create whose answers were all lost may exist without a client that knows it, but never more than one per key.
    unknown = len(set(states) - {each for ids in observed.accepted.values() for each in ids})
    return found + ([f"{unknown} generations that no key accounts for"] if unknown > keys * 0.05 + 5 else [])


def ends_are_final(observed: Observed, made: Rows) -> list[str]:
    """No client saw an end that is not the end in the books."""
    states = {row["id"]: row["state"] for row in made}
    return [
        f"{generation_id} was seen {sorted(set(seen))} and is {states.get(generation_id)}"
        for generation_id, seen in observed.terminal.items()
        if set(seen) != {states.get(generation_id)}
    ]


def quota_adds_up(made: Rows, used: Rows) -> list[str]:
    """The counters hold exactly what was not given back."""
    counted: Counter[tuple[str, str]] = Counter()
    for row in made:
        # The windows that hold a place for it: emptied in the transaction that gives the quota back.
        for window in row["quota_windows"]:
            counted[row["account_id"], window["window"]] += 1
    books: Counter[tuple[str, str]] = Counter()
    for row in used:
        books[row["account_id"], row["window"]] += row["generations"]
    return [
        f"quota of {place}: the counter says {books[place]}, the generations {counted[place]}"
        for place in sorted(set(books) | set(counted))
        if books[place] != counted[place]
    ]


def webhooks_came(made: Rows, receiver: Receiver) -> list[str]:
    """Every end was told, under one id."""
    found = []
    for row in made:
        ids = receiver.seen.get(row["id"], set())
        if row["webhook_url"] and not receiver.accepted.get(row["id"]):
            found.append(f"{row['id']} {row['state']}: no webhook arrived")
        if len(ids) > 1:
            found.append(f"{row['id']}: webhooks with {len(ids)} ids")
    return found


async def audio_is_whole(
    http: httpx2.AsyncClient, keys: Mapping[str, str], observed: Observed, parts: Rows
) -> list[str]:
    """Every succeeded track has its samples, and they are what every listener heard.

    Args:
        keys: account id → a key that may read.
    """
    found = []
    for track in parts:
        if track["state"] != "succeeded":
            continue
        headers = {"Authorization": f"Bearer {keys[track['account_id']]}"}
        exact = await _get(http, track, "wav32f", headers)
        samples, _ = soundfile.read(io.BytesIO(exact), dtype="float32", always_2d=True)
        if hashlib.sha256(samples.astype("<f4").tobytes()).hexdigest() != track["sha256"]:
            found.append(f"{track['id']}: the stored audio is not what was made")
        if len(samples) != track["total_samples"]:
            found.append(f"{track['id']}: {len(samples)} samples, {track['total_samples']} in the books")
        wav = await _get(http, track, "wav", headers)
        heard = observed.bodies.get(track["generation_id"], [])
        found += [f"{track['generation_id']}: a listener heard other bytes" for body in heard if body != wav]
        found += _pieces_differ(observed, track, wav)
    return found


def _pieces_differ(observed: Observed, track: RowMapping, wav: bytes) -> list[str]:
    found, pcm = [], wav[len(wav) - track["total_samples"] * track["channels"] * 2 :]
    size = round(track["sample_rate"] * 0.2) * track["channels"] * 2
    mine = {i: v for (g, p, i), v in observed.pieces.items() if (g, p) == (track["generation_id"], track["position"])}
    for index, versions in mine.items():
        if versions != {pcm[index * size : (index + 1) * size]}:
            found.append(f"{track['generation_id']}: piece {index} is not that part of the track")
    if mine and set(mine) != set(range(int(np.ceil(len(pcm) / size)))):
        found.append(f"{track['generation_id']}: pieces are missing from the events")
    return found


async def _get(http: httpx2.AsyncClient, track: RowMapping, audio_format: str, headers: dict[str, str]) -> bytes:
    response = await http.get(f"/api/v1/audio/{track['id']}/data", params={"format": audio_format}, headers=headers)
    response.raise_for_status()
    return response.content


async def tenants_are_apart(http: httpx2.AsyncClient, keys: Mapping[str, str], made: Rows) -> list[str]:
    """No tenant sees another's generation."""
    found = []
    for row in made[:50]:
        for account_id, key in keys.items():
            response = await http.get(f"/api/v1/generate/{row['id']}", headers={"Authorization": f"Bearer {key}"})
            wanted = 200 if account_id == row["account_id"] else 404
            if response.status_code != wanted:
                found.append(f"{row['id']}: {account_id} got {response.status_code}, not {wanted}")
    return found
