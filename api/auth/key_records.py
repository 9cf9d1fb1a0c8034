"""API keys as values: what one shall be, what is known of it, and what is told once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from api.auth.key_format import KeyMode
from api.auth.principal import Scope


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What may be known of a key. Its status is that of the moment it was read."""

    id: str
    account_id: str
    name: str
    hint: str
    mode: KeyMode
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    successor_id: str | None

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> ApiKey:
        """A row of ``api_keys``."""
        fields: dict[str, Any] = {name: row[name] for name in cls.__slots__}
        # A scope that a later version wrote and this one does not know grants nothing here.
        known = frozenset(Scope(scope) for scope in fields.pop("scopes") if scope in set(Scope))
        return cls(**fields, scopes=known)

    def status(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key shall be."""

    name: str
    mode: KeyMode
    scopes: frozenset[Scope]
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A key with what it reads, which is never known again.

    Attributes:
        replayed: made by an earlier call with the same idempotency key.
    """

    key: ApiKey
    secret: str = field(repr=False)
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Once:
    """The client's idempotency key and the hash of its request."""

    key: str
    request_hash: str


@dataclass(frozen=True, slots=True)
class Recognised:
    """A key that somebody showed.

    Attributes:
        new_hash: what shall be stored in place of a hash that an earlier secret made.
    """

    key: ApiKey
    new_hash: str | None = field(default=None, repr=False)
