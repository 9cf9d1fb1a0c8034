"""Stores elsewhere: their addresses, and what is said when credentials are missing. No service is asked."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from api.storage.errors import StorageConfigError, StorageUnavailableError
from api.storage.objects import ObjectStore
from api.storage.opening import open_store

ACCOUNT = {"AZURE_STORAGE_ACCOUNT_NAME": "acct"}
KEY = {**ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": "aGlkZGVu"}
S3_KEY = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hidden"}


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what the machine of the tests has, and no second attempts."""
    for name in {name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))}:
        monkeypatch.delenv(name)
    monkeypatch.setattr("api.storage.opening._RETRY", {"max_retries": 0})


@pytest.fixture
def nobody() -> str:
    """An address of this machine where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def give(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("url", "variables", "config", "prefix"),
    [
        ("s3://bucket/a/b", S3_KEY, {"bucket": "bucket"}, "a/b"),
        ("s3://bucket", {}, {"bucket": "bucket"}, None),
        ("s3a://bucket/a", {"AWS_ENDPOINT_URL": "https://minio.example:9000"}, {"bucket": "bucket"}, "a"),
        ("gs://bucket/a", {}, {"bucket": "bucket"}, "a"),
        ("az://container/a", KEY, {"container_name": "container"}, "a"),
        ("abfss://container@acct.dfs.core.windows.net/a", {}, {"container_name": "container"}, "a"),
    ],
)
def test_addresses(
    url: str, variables: dict[str, str], config: dict[str, str], prefix: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, variables)
    store: Any
    store, directory = open_store(url)
    assert directory is None
    assert config.items() <= store.config.items()
    assert store.prefix == prefix


@pytest.mark.parametrize(
    ("url", "variables", "words"),
    [
        ("az://container/a", {}, "set AZURE_STORAGE_ACCOUNT_NAME"),
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": "AKIA"}, "set AWS_SECRET_ACCESS_KEY too"),
        ("s3://bucket", {"AWS_SECRET_ACCESS_KEY": "hidden"}, "set AWS_ACCESS_KEY_ID too"),
        ("s3://bucket", {"AWS_ENDPOINT": "minio:9000"}, "AWS_ENDPOINT is no address"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "http://minio:9000"}, "set AWS_ALLOW_HTTP=true"),
        ("az://container", {**KEY, "AZURE_ENDPOINT": "http://azurite:10000"}, "set AZURE_ALLOW_HTTP=true"),
        ("gs://bucket", {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such.json"}, "GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs://bucket", {"GOOGLE_APPLICATION_CREDENTIALS": __file__}, "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_contacted(
    url: str, variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, variables)
    with pytest.raises(StorageConfigError, match=words) as caught:
        ObjectStore.from_url(url)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "variables", "words"),
    [
        ("s3://bucket", {"AWS_METADATA_ENDPOINT": "http://{nobody}"}, "AWS_SECRET_ACCESS_KEY"),
        ("gs://bucket", {"GCE_METADATA_HOST": "{nobody}"}, "GOOGLE_APPLICATION_CREDENTIALS"),
        (
            "az://container",
            {**ACCOUNT, "AZURE_MSI_ENDPOINT": "http://{nobody}/metadata/identity/oauth2/token"},
            "AZURE_STORAGE_ACCOUNT_KEY",
        ),
    ],
)
async def test_without_credentials_and_without_a_role(
    url: str, variables: dict[str, str], words: str, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, {name: value.format(nobody=nobody) for name, value in variables.items()})
    with pytest.raises(StorageUnavailableError, match=f"no credentials are set.*{words}"):
        await ObjectStore.from_url(url).put("a", b"1")


@pytest.mark.parametrize(
    ("url", "service", "variables"), [("s3://bucket/prefix", "AWS", S3_KEY), ("az://container/prefix", "AZURE", KEY)]
)
async def test_a_store_that_does_not_answer(
    url: str, service: str, variables: dict[str, str], nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, {**variables, f"{service}_ENDPOINT": f"http://{nobody}", f"{service}_ALLOW_HTTP": "true"})
    with pytest.raises(StorageUnavailableError, match=r"does not answer.*check that it runs") as caught:
        await ObjectStore.from_url(url).get("a")
    assert nobody not in str(caught.value)
    assert "hidden" not in str(caught.value)
