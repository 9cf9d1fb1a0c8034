"""Sweeping: what no row knows goes, after a while; everything else stays."""

from __future__ import annotations

from datetime import timedelta

from api.clock import utc_now
from api.ids import new_id
from api.storage import sweep
from api.storage.audio import AudioLibrary
from api.storage.objects import ObjectStore
from api.storage.sweep import MIN_AGE, sweep_orphans
from api.storage.vault import Vault
from api.store.database import Database
from tests.api.fakes import SAMPLE_RATE, sine
from tests.api.storage.rows import add_account, add_track


async def test_orphans_go_when_they_are_old_enough(database: Database, objects: ObjectStore) -> None:
    library = AudioLibrary(objects, Vault(database, {"m1": bytes(32)}, utc_now))
    account = await add_account(database)
    await add_track(database, account, library=library, samples=sine(1, 100))
    kept = {entry.key async for entry in objects.listing("")}
    (of_a_track,) = kept
    await objects.put(f"{of_a_track}.codes", b"beside it")
    kept.add(f"{of_a_track}.codes")
    samples = sine(1, 100).tobytes()
    for attempt in range(2):
        await library.store(account, new_id("gen"), new_id("trk"), attempt, samples, SAMPLE_RATE, 1)
    await library.store(account, new_id("gen"), new_id("trk"), 2, samples, SAMPLE_RATE, 1, codes=b"beside it")
    await library.store_upload(account, new_id("upl"), sine(1, 100).tobytes(), 1)
    await objects.put("health/of_a_check_that_was_killed", b"ok")
    await objects.put("notes", b"not ours")
    assert await sweep_orphans(database, objects, utc_now()) == 0
    later = utc_now() + MIN_AGE + timedelta(seconds=1)
    assert await sweep_orphans(database, objects, later) == 6
    assert await sweep_orphans(database, objects, later) == 0
    assert {entry.key async for entry in objects.listing("")} == kept | {"notes"}


async def test_more_than_one_batch(database: Database, objects: ObjectStore) -> None:
    for index in range(sweep._BATCH + 1):
        await objects.put(f"acc_1/tracks/{index}", b"1")
    assert await sweep_orphans(database, objects, utc_now() + 2 * MIN_AGE) == sweep._BATCH + 1
