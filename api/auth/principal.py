"""Who is asking: the one value that every route, limit and query is given."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

PrincipalKind = Literal["local", "token", "cookie", "api_key"]


class Role(StrEnum):
    """Each includes the ones before it."""

    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


class Scope(StrEnum):
    """What a credential may do. A session has all of its account's; an API key those it was made with."""

    GENERATIONS_READ = "generations:read"
    GENERATIONS_WRITE = "generations:write"
    AUDIO_READ = "audio:read"
    AUDIO_WRITE = "audio:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    ACCOUNT_READ = "account:read"
    ACCOUNT_WRITE = "account:write"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """The account behind a request, and what its credential allows.

    Attributes:
        account_id: every query is scoped to it.
        tier: a name in the tiers file.
        kind: how it proved itself; "local" is development on loopback without credentials.
        api_key_id: of an API key, else None.
        test_mode: made with an ``sk_test_`` key: generations are marked and not counted against the quota.
    """

    account_id: str
    role: Role
    tier: str
    scopes: frozenset[Scope]
    kind: PrincipalKind
    api_key_id: str | None = None
    test_mode: bool = False
