"""What can go wrong between the platform and the place where it keeps audio."""

from __future__ import annotations

from models.errors import TuttiError


class StorageError(TuttiError):
    """Storage does not work as it should; the message says what to check. Never holds keys or content."""


class StorageUnavailableError(StorageError):
    """The store cannot be reached or refuses for now: the same call may succeed later."""


class StorageConfigError(StorageError):
    """The store's address or credentials are wrong: an operator has to act."""


class ObjectMissingError(StorageError):
    """No object of that key."""


class SealBrokenError(StorageError):
    """Encrypted bytes are not what was sealed: truncated, reordered, swapped, altered, or of another account."""


class KeyMissingError(StorageError):
    """The key that would open this is gone: its account was erased, or a master key is not configured."""
