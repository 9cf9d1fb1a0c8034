"""The audio library: what went in comes out, in any part; what is known of it is right; nothing else opens it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyloudnorm
import pytest

from api.ids import new_id
from api.storage import peaks
from api.storage.audio import AudioLibrary, StoredAudio
from api.storage.errors import KeyMissingError, ObjectMissingError, SealBrokenError
from api.storage.objects import ObjectStore
from api.storage.vault import Vault
from api.store.database import Database
from models.errors import GenerationFailedError
from tests.api.fakes import SAMPLE_RATE, sine
from tests.api.storage.conftest import NewAccount


@dataclass(frozen=True)
class Row:
    account_id: str
    object_key: str | None
    channels: int | None
    total_samples: int | None


async def put(library: AudioLibrary, account: str, samples: np.ndarray, attempt: int = 1) -> tuple[StoredAudio, Row]:
    channels = samples.shape[1]
    stored = await library.store(
        account, new_id("gen"), new_id("trk"), attempt, samples.tobytes(), SAMPLE_RATE, channels
    )
    return stored, Row(account, stored.object_key, channels, stored.total_samples)


@pytest.mark.parametrize("channels", [1, 2])
async def test_any_part_comes_back_exactly(library: AudioLibrary, new_account: NewAccount, channels: int) -> None:
    samples = sine(3, 50_000, channels)
    _, row = await put(library, await new_account(), samples)
    for first, count in ((0, 50_000), (0, 1), (49_999, 1), (16_383, 2), (8_191, 30_000), (777, 0)):
        assert np.array_equal(await library.read(row, first, count), samples[first : first + count])
    blocks = [block async for block in library.blocks(row, 7_001)]
    assert np.array_equal(np.concatenate(blocks), samples)
    blocks = [block async for block in library.blocks(row, 7_001, 40_000)]
    assert np.array_equal(np.concatenate(blocks), samples[40_000:])


async def test_what_is_known_of_it_is_right(library: AudioLibrary, new_account: NewAccount) -> None:
    samples = sine(3, 3 * SAMPLE_RATE, 2)
    stored, row = await put(library, await new_account(), samples, attempt=2)
    assert stored.sha256 == hashlib.sha256(samples.tobytes()).hexdigest()
    assert stored.total_samples == 3 * SAMPLE_RATE
    assert stored.peak == np.abs(samples).max()
    assert stored.loudness_lufs == pytest.approx(pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(samples), abs=1e-3)
    assert len(stored.peaks) == 2 * peaks.MAX_BINS
    assert row.object_key is not None
    assert row.object_key.startswith(f"{row.account_id}/tracks/gen_")
    assert row.object_key.endswith("-2")


@pytest.mark.parametrize("samples", [np.zeros((SAMPLE_RATE, 1), "<f4"), sine(1, 100)])
async def test_silence_and_snippets_have_no_loudness(
    library: AudioLibrary,
    new_account: NewAccount,
    samples: np.ndarray,
) -> None:
    stored, _ = await put(library, await new_account(), samples)
    assert stored.loudness_lufs is None


async def test_what_is_stored_cannot_be_read_without_the_key(
    objects: ObjectStore, vault: Vault, database: Database, new_account: NewAccount
) -> None:
    library = AudioLibrary(objects, vault)
    account = await new_account()
    samples = sine(3, 5_000)
    _, row = await put(library, account, samples)
    assert row.object_key is not None
    assert samples.tobytes()[1_000:1_040] not in await objects.get(row.object_key)
    async with database.begin() as conn:
        await vault.erase(conn, account)
    with pytest.raises(KeyMissingError):
        await library.read(row, 0, 1)


async def test_truncated_and_swapped_objects_are_noticed(
    objects: ObjectStore, vault: Vault, new_account: NewAccount
) -> None:
    library = AudioLibrary(objects, vault)
    account = await new_account()
    _, one = await put(library, account, sine(3, 40_000))
    _, two = await put(library, account, sine(4, 40_000))
    assert one.object_key is not None
    assert two.object_key is not None
    sealed = await objects.get(one.object_key)
    await objects.put(two.object_key, sealed)
    with pytest.raises(SealBrokenError):
        await library.read(two, 0, 1)
    for size in (len(sealed) - 1, 1, 0):
        await objects.put(one.object_key, sealed[:size])
        with pytest.raises(SealBrokenError, match="size"):
            await library.read(one, 0, 1)


@pytest.mark.parametrize("size", [2, 65_536, 200_000])
async def test_codes_lie_beside_the_audio_and_go_with_it(
    objects: ObjectStore, vault: Vault, new_account: NewAccount, size: int
) -> None:
    library, account = AudioLibrary(objects, vault), await new_account()
    codes = np.random.default_rng(size).bytes(size)
    stored = await library.store(
        account, new_id("gen"), new_id("trk"), 1, sine(1, 100).tobytes(), SAMPLE_RATE, 1, codes
    )
    assert await library.codes(account, stored.object_key) == codes
    named = [entry.key async for entry in objects.listing("")]
    beside = next(key for key in named if key != stored.object_key)
    sealed = await objects.get(beside)
    assert codes[:64] not in sealed or size < 64
    for cut in (len(sealed) - 1, 41, 3, 0):
        await objects.put(beside, sealed[:cut])
        with pytest.raises(SealBrokenError):
            await library.codes(account, stored.object_key)
    await library.delete(stored.object_key)
    assert await library.codes(account, stored.object_key) is None
    assert [entry.key async for entry in objects.listing("")] == []


async def test_a_track_without_codes_has_none(library: AudioLibrary, new_account: NewAccount) -> None:
    account = await new_account()
    _, row = await put(library, account, sine(3, 100))
    assert row.object_key is not None
    assert await library.codes(account, row.object_key) is None


async def test_gone_is_gone(library: AudioLibrary, new_account: NewAccount) -> None:
    _, row = await put(library, await new_account(), sine(3, 100))
    assert row.object_key is not None
    await library.delete(row.object_key)
    await library.delete(row.object_key)
    with pytest.raises(ObjectMissingError):
        await library.read(row, 0, 1)


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 101), (100, 1), (0, -1)])
async def test_ranges_must_lie_within(library: AudioLibrary, new_account: NewAccount, first: int, count: int) -> None:
    _, row = await put(library, await new_account(), sine(3, 100))
    with pytest.raises(ValueError, match="not in the audio"):
        await library.read(row, first, count)


async def test_a_row_without_audio_has_none(library: AudioLibrary, new_account: NewAccount) -> None:
    with pytest.raises(ObjectMissingError):
        await library.read(Row(await new_account(), None, None, None), 0, 1)


@pytest.mark.parametrize("pcm", [b"", b"123", np.array([np.nan], "<f4").tobytes(), np.array([np.inf], "<f4").tobytes()])
async def test_what_is_no_audio_is_not_stored(library: AudioLibrary, new_account: NewAccount, pcm: bytes) -> None:
    with pytest.raises(GenerationFailedError, match="bug"):
        await library.store(await new_account(), new_id("gen"), new_id("trk"), 1, pcm, SAMPLE_RATE, 1)


async def test_nothing_is_stored_for_an_unknown_account(library: AudioLibrary) -> None:
    with pytest.raises(KeyMissingError):
        await put(library, new_id("acc"), sine(3, 100))


def test_peaks_show_every_extreme() -> None:
    samples = np.zeros((10_000, 2), "<f4")
    samples[1_234, 1], samples[7_777, 0], samples[9_999, 0] = 0.5, -1.0, 3.0
    low, high = peaks.fewer_bins(peaks.measure_peaks(samples), 1000)
    assert (len(low), high[123], low[777], high[999]) == (1000, 64, -127, 127)
    assert sum(map(bool, low)) == 1
    low, high = peaks.fewer_bins(peaks.measure_peaks(samples), 3)
    assert (low, high) == ([0, 0, -127], [64, 0, 127])


def test_a_short_track_has_fewer_bins() -> None:
    low, high = peaks.fewer_bins(peaks.measure_peaks(np.array([[0.1], [-0.1]], "<f4")), 1000)
    assert (low, high) == ([12, -13], [13, -12])
