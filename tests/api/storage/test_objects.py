"""Objects: whole or not at all, in parts, and errors that say what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from api.storage.errors import ObjectMissingError, StorageConfigError
from api.storage.objects import ObjectStore, object_key


async def test_what_is_put_comes_back_whole_and_in_parts(objects: ObjectStore) -> None:
    content = bytes(range(256)) * 1000
    await objects.put("acc_1/tracks/a", content)
    assert await objects.get("acc_1/tracks/a") == content
    assert await objects.get_part("acc_1/tracks/a", 10, 300) == (content[10:300], len(content))
    assert await objects.get_part("acc_1/tracks/a", len(content) - 5, len(content) + 5) == (content[-5:], len(content))


@pytest.mark.parametrize("content", [b"", b"123"])
async def test_a_part_that_begins_behind_the_end_is_empty(objects: ObjectStore, content: bytes) -> None:
    await objects.put("a", content)
    for start in (len(content), len(content) + 10):
        assert await objects.get_part("a", start, start + 5) == (b"", len(content))


async def test_a_second_put_replaces_the_first(objects: ObjectStore) -> None:
    await objects.put("a", b"old and longer")
    await objects.put("a", b"new")
    assert await objects.get("a") == b"new"


async def test_readers_never_see_a_part_of_an_object(objects: ObjectStore) -> None:
    versions = [bytes([value]) * 3_000_000 for value in range(4)]
    await objects.put("a", versions[0])
    seen: list[bytes] = []

    async def read() -> None:
        seen.extend([await objects.get("a") for _ in range(20)])

    reading = asyncio.create_task(read())
    for version in versions[1:]:
        await objects.put("a", version)
    await reading
    assert set(seen) <= set(versions)


async def test_what_is_not_there_is_named(objects: ObjectStore) -> None:
    with pytest.raises(ObjectMissingError, match="acc_1/x"):
        await objects.get("acc_1/x")
    with pytest.raises(ObjectMissingError):
        await objects.get_part("acc_1/x", 0, 1)


async def test_removing_twice_is_fine(objects: ObjectStore) -> None:
    await objects.put("a", b"1")
    await objects.delete("a")
    await objects.delete("a")
    with pytest.raises(ObjectMissingError):
        await objects.get("a")


async def test_all_of_one_prefix_is_listed_and_nothing_else(objects: ObjectStore) -> None:
    for key in ("acc_1/tracks/a", "acc_1/uploads/b", "acc_10/tracks/c"):
        await objects.put(key, b"1")
    assert {entry.key async for entry in objects.listing("acc_1")} == {"acc_1/tracks/a", "acc_1/uploads/b"}


async def test_check_says_whether_it_works_and_leaves_nothing(objects: ObjectStore) -> None:
    assert await asyncio.gather(*(objects.check() for _ in range(5))) == [True] * 5
    assert [entry async for entry in objects.listing("")] == []


async def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    objects = ObjectStore.from_url(f"file://{tmp_path}/objects")
    (tmp_path / "objects").rmdir()
    (tmp_path / "objects").write_text("a file where the directory was")
    assert "object store" in str(await objects.check())


@pytest.mark.parametrize("url", ["ftp://x/y", "somewhere", "file://host/x", "s3:///", "gs:///"])
def test_addresses_that_are_no_store_are_refused(url: str) -> None:
    with pytest.raises(StorageConfigError, match=r"URL"):
        ObjectStore.from_url(url)


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "../x", "A", "a..b", "x" * 101, "a b", "é"])
def test_keys_are_made_of_minted_ids_only(part: str) -> None:
    with pytest.raises(ValueError, match="bug"):
        object_key("acc_1", part)
