"""From an address to a store: nothing is contacted here, so what is wrong with the address is said at the start."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions as failures
from obstore.store import ObjectStore as Store
from obstore.store import from_url

from api.storage.errors import StorageConfigError
from api.storage.failures import unusable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_RETRY: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
_S3 = frozenset({"s3", "s3a"})
_AZURE = frozenset({"az", "adl", "azure", "abfs", "abfss"})
_REMOTE = _S3 | _AZURE | {"gs"}
_ENDPOINTS = {"AWS": ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"), "AZURE": ("AZURE_ENDPOINT",)}
_ENDPOINT = re.compile(r"https?://[^/\s?#]+(/[^\s?#]*)?")


def open_store(url: str) -> tuple[Store, Path | None]:
    """A store by its address, and the directory of a local one.

    Raises:
        StorageConfigError: the address is unknown or cannot be used.
    """
    scheme = urlsplit(url).scheme
    try:
        if scheme == "file":
            return _local(url)
        if scheme == "memory":
            return from_url("memory:///"), None
        if scheme not in _REMOTE:
            raise StorageConfigError("a storage URL begins with file, s3, gs, az or memory: mend TUTTI_STORAGE_URL")
        client: ClientConfig = {"connect_timeout": "5s", "timeout": "60s", "allow_http": _is_plain(scheme, os.environ)}
        return from_url(url, client_options=client, retry_config=_RETRY), None
    except (failures.BaseError, ValueError, OSError) as error:
        raise unusable(error) from error


def _local(url: str) -> tuple[Store, Path]:
    parts = urlsplit(url)
    directory = Path(unquote(parts.path))
    if parts.netloc or not directory.is_absolute():
        raise StorageConfigError("a local store is file:///and/an/absolute/path: mend TUTTI_STORAGE_URL")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return cast(Store, obstore.store.LocalStore(directory)), directory


def _is_plain(scheme: str, environment: Mapping[str, str]) -> bool:
    """Whether HTTP without TLS is allowed.

    Read here since options that are given replace those of the environment; and looked at here since the library
    panics on an endpoint that is no URL, and says nothing of use when plain HTTP is not allowed.
    """
    service = "AWS" if scheme in _S3 else "AZURE" if scheme in _AZURE else "GOOGLE"
    allowed = environment.get(f"{service}_ALLOW_HTTP", "").lower() == "true"
    for name in _ENDPOINTS.get(service, ()):
        endpoint = environment.get(name)
        if endpoint is None:
            continue
        if not _ENDPOINT.fullmatch(endpoint):
            raise StorageConfigError(f"{name} is no address: it looks like https://HOST:PORT")
        if endpoint.startswith("http://") and not allowed:
            message = f"{name} is without TLS: give an https:// address, or set {service}_ALLOW_HTTP=true"
            raise StorageConfigError(message)
    return allowed
