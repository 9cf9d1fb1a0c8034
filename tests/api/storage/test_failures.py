"""Causes that no server here can be brought to name: the words are those that the services use."""

from __future__ import annotations

import pytest
from obstore import exceptions as failures

from api.storage.errors import ObjectMissingError, StorageConfigError, StorageError, StorageUnavailableError
from api.storage.failures import translated


@pytest.mark.parametrize(
    ("text", "kind", "advice"),
    [
        ("400 Bad Request: <Code>ExpiredToken</Code>", StorageConfigError, "renew AWS_SESSION_TOKEN"),
        ("403 Forbidden: <Code>RequestTimeTooSkewed</Code>", StorageConfigError, "clock is wrong"),
        ("this normally indicates an incorrectly configured region", StorageConfigError, "AWS_REGION"),
        ("403 Forbidden: <Code>AuthorizationFailure</Code>", StorageConfigError, "AZURE_STORAGE_ACCOUNT_KEY"),
        ("404 Not Found: <Code>ContainerNotFound</Code>", StorageConfigError, "no such container: make it"),
        ("403 Forbidden: something new", StorageConfigError, "may read, write, list and delete"),
        ("http://192.0.2.1/latest/api/token: 403 Forbidden", StorageUnavailableError, "no credentials are set"),
        ("Unable to copy data: No space left on device (os error 28)", StorageUnavailableError, "free some space"),
        ("500 Internal Server Error", StorageUnavailableError, "check that it runs"),
    ],
)
def test_a_cause_becomes_advice_and_is_not_repeated(text: str, kind: type[StorageError], advice: str) -> None:
    with pytest.raises(kind, match=advice) as caught, translated("acc_1/a"):
        raise failures.GenericError(f"Generic error: {text}")
    assert text not in str(caught.value)


def test_what_is_missing_is_an_object_when_it_is_read_and_the_place_when_it_is_written() -> None:
    with pytest.raises(ObjectMissingError, match="acc_1/a"), translated("acc_1/a"):
        raise FileNotFoundError("404")
    with pytest.raises(StorageConfigError, match="no place to write to"), translated("acc_1/a", is_write=True):
        raise FileNotFoundError("404")
