"""From the errors of an object store to ours, in words that say what to do.

A store's own text is searched and never repeated: it may hold addresses, and what a server answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from obstore import exceptions as failures

from api.storage.errors import ObjectMissingError, StorageConfigError, StorageError, StorageUnavailableError

_MEND_URL = "make it, or mend TUTTI_STORAGE_URL"
_RIGHTS = "check its credentials, and that they may read, write, list and delete"
_NO_ROLE = "no credentials are set and this machine has no role that gives them: set"


@dataclass(frozen=True, slots=True)
class _Cause:
    """A cause that a store's text gives away.

    Attributes:
        mark: what the text holds.
        kind: whether trying again may help.
    """

    mark: str
    kind: type[StorageError]
    advice: str


_CAUSES = (
    _Cause("NoSuchBucket", StorageConfigError, f"there is no such bucket: {_MEND_URL}"),
    _Cause("ContainerNotFound", StorageConfigError, f"there is no such container: {_MEND_URL}"),
    _Cause("InvalidAccessKeyId", StorageConfigError, "it does not know the access key: mend AWS_ACCESS_KEY_ID"),
    _Cause(
        "SignatureDoesNotMatch", StorageConfigError, "the secret is not the access key's: mend AWS_SECRET_ACCESS_KEY"
    ),
    _Cause("AccessDenied", StorageConfigError, f"it refuses: {_RIGHTS}"),
    _Cause("ExpiredToken", StorageConfigError, "its credentials have expired: renew AWS_SESSION_TOKEN"),
    _Cause("RequestTimeTooSkewed", StorageConfigError, "this machine's clock is wrong: set it"),
    _Cause("configured region", StorageConfigError, "the bucket is in another region: mend AWS_REGION"),
    _Cause("AuthenticationFailed", StorageConfigError, "it does not take the key: mend AZURE_STORAGE_ACCOUNT_KEY"),
    _Cause("AuthorizationFailure", StorageConfigError, "it does not take the key: mend AZURE_STORAGE_ACCOUNT_KEY"),
    # Where a role is meant to give the credentials, what gives them may be away for a moment: not a mistake for sure.
    _Cause("/latest/api/token", StorageUnavailableError, f"{_NO_ROLE} AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    _Cause("computeMetadata", StorageUnavailableError, f"{_NO_ROLE} GOOGLE_APPLICATION_CREDENTIALS"),
    _Cause("metadata/identity", StorageUnavailableError, f"{_NO_ROLE} AZURE_STORAGE_ACCOUNT_KEY"),
    _Cause("403 Forbidden", StorageConfigError, f"it refuses: {_RIGHTS}"),
    _Cause("os error 28", StorageUnavailableError, "its disk is full: free some space"),
    _Cause("Missing AccessKeyId", StorageConfigError, "AWS_SECRET_ACCESS_KEY is set alone: set AWS_ACCESS_KEY_ID too"),
    _Cause(
        "Missing SecretAccessKey", StorageConfigError, "AWS_ACCESS_KEY_ID is set alone: set AWS_SECRET_ACCESS_KEY too"
    ),
    _Cause("Account must be specified", StorageConfigError, "set AZURE_STORAGE_ACCOUNT_NAME"),
    _Cause("service account file", StorageConfigError, "GOOGLE_APPLICATION_CREDENTIALS names no file of credentials"),
    _Cause(
        "application credentials", StorageConfigError, "GOOGLE_APPLICATION_CREDENTIALS names no file of credentials"
    ),
)
_PAST_END = re.compile(r"range was invalid|invalid ?range|\b416\b", re.IGNORECASE)
_REFUSALS = (failures.PermissionDeniedError, failures.UnauthenticatedError, PermissionError)
_NOT_FOUND = (failures.NotFoundError, FileNotFoundError)


@contextmanager
def translated(key: str, *, is_write: bool = False) -> Iterator[None]:
    """Raise our errors for those of a store.

    Args:
        is_write: nothing needs to be there; if something is said to be missing, it is the bucket.

    Raises:
        ObjectMissingError, StorageConfigError, StorageUnavailableError: as named.
    """
    try:
        yield
    except (failures.BaseError, OSError) as error:
        raise _named(error, key, is_write=is_write) from error


def is_past_end(error: Exception) -> bool:
    """The object seems to end before the range that was asked for begins; stores call that an error."""
    return _PAST_END.search(str(error)) is not None


def unusable(error: Exception) -> StorageConfigError:
    """A store that cannot even be made: nothing was contacted yet."""
    cause = _cause(error)
    advice = cause.advice if cause is not None else f"{_kind(error)}; mend its URL"
    return StorageConfigError(f"the object store cannot be opened: {advice}")


def _kind(error: Exception) -> str:
    """The error's type only."""
    return type(error).__name__


def _named(error: Exception, key: str, *, is_write: bool) -> StorageError:
    cause = _cause(error)
    if cause is not None:
        return cause.kind(f"the object store cannot be used: {cause.advice}")
    if isinstance(error, _NOT_FOUND):
        if is_write:
            return StorageConfigError(f"the object store has no place to write to: {_MEND_URL}")
        return ObjectMissingError(f"there is no object {key}")
    if isinstance(error, _REFUSALS):
        return StorageConfigError(f"the object store refuses: {_kind(error)}; {_RIGHTS}")
    advice = "check that it runs, and the address in TUTTI_STORAGE_URL or AWS_ENDPOINT"
    return StorageUnavailableError(f"the object store does not answer: {_kind(error)}; {advice}")


def _cause(error: Exception) -> _Cause | None:
    text = str(error)
    return next((cause for cause in _CAUSES if cause.mark in text), None)
