"""What can be wrong with a store of S3's protocol, at every operation, and what the doctor says of it."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import pytest

from api.doctor import Finding, Status
from api.doctor_stores import check_storage
from api.storage.errors import StorageConfigError, StorageError, StorageUnavailableError
from api.storage.objects import ObjectStore
from tests.api.storage.s3_server import BUCKET, S3Server

URL = f"s3://{BUCKET}/faults"


@pytest.fixture(autouse=True)
def _without_second_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.storage.opening._RETRY", {"max_retries": 0})


async def _list(objects: ObjectStore) -> None:
    async for _ in objects.listing("acc_1"):
        pass


OPERATIONS: dict[str, Callable[[ObjectStore], Awaitable[object]]] = {
    "put": lambda objects: objects.put("acc_1/a", b"1"),
    "get": lambda objects: objects.get("acc_1/a"),
    "get_part": lambda objects: objects.get_part("acc_1/a", 0, 1),
    "delete": lambda objects: objects.delete("acc_1/a"),
    "listing": _list,
}
FAULTS: dict[str, tuple[str, type[StorageError], str]] = {
    "access key": (URL, StorageConfigError, "AWS_ACCESS_KEY_ID"),
    "secret": (URL, StorageConfigError, "AWS_SECRET_ACCESS_KEY"),
    "bucket": ("s3://no-such-bucket/faults", StorageConfigError, "no such bucket: make it"),
    "endpoint": (URL, StorageUnavailableError, "AWS_ENDPOINT"),
}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest, s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    if name == "access key":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY")
    elif name == "secret":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    elif name == "endpoint":
        with socket.create_server(("127.0.0.1", 0)) as free:
            monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    return name


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_operation_says_what_to_do(fault: str, operation: str) -> None:
    url, kind, words = FAULTS[fault]
    with pytest.raises(kind, match=words) as caught:
        await OPERATIONS[operation](ObjectStore.from_url(url))
    assert "127.0.0.1" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_the_doctor_says_it_too(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, _, words = FAULTS[fault]
    _is(_storage(url, monkeypatch), Status.FAIL, words)


def test_the_doctor_writes_reads_and_removes(storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ObjectStore.from_url(storage_url)  # makes the directory, if it is one
    _is(_storage(storage_url, monkeypatch), Status.OK, storage_url)


@pytest.mark.parametrize("operation", ["put", "delete"])
async def test_a_key_without_the_right(
    operation: str, s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ObjectStore.from_url(URL).put("acc_1/a", b"1")
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), s3_environment.reader, strict=True):
        monkeypatch.setenv(name, value)
    objects = ObjectStore.from_url(URL)
    assert await objects.get("acc_1/a") == b"1"
    with pytest.raises(StorageConfigError, match="may read, write, list and delete"):
        await OPERATIONS[operation](objects)
    assert "may read, write" in str(await objects.check())


def _storage(url: str, monkeypatch: pytest.MonkeyPatch) -> Finding:
    monkeypatch.setenv("TUTTI_STORAGE_URL", url)
    return check_storage()


def _is(finding: Finding, status: Status, words: str) -> None:
    assert finding.status is status, finding
    assert words in finding.detail, finding
