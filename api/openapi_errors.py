"""Which errors an operation may answer with: told from what it is, so that routes name only their own.

A rule looks at the facts of an operation; every rule that holds adds its codes to those the route states itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from api.auth.policy import Policy
from api.errors import ErrorCode

UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
IDEMPOTENCY_KEY = "idempotency-key"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at.

    Attributes:
        method: in capitals.
        path: with its prefix.
        policy: who may call it.
        body_types: media types of its request body; empty if it takes none.
        parameters: names of its path, query and header parameters, in lower case.
    """

    method: str
    path: str
    policy: Policy
    body_types: frozenset[str]
    parameters: frozenset[str]

    @staticmethod
    def of(method: str, path: str, policy: Policy, operation: dict[str, Any]) -> Facts:
        names = frozenset(parameter["name"].lower() for parameter in operation.get("parameters", ()))
        return Facts(method, path, policy, frozenset(operation.get("requestBody", {}).get("content", ())), names)


_RULES: tuple[tuple[Callable[[Facts], bool], tuple[ErrorCode, ...]], ...] = (
    (lambda facts: True, (ErrorCode.INTERNAL_ERROR, ErrorCode.GATEWAY_UNAVAILABLE)),
    (lambda facts: facts.path.startswith("/api/"), (ErrorCode.UNSUPPORTED_VERSION, ErrorCode.REQUEST_TIMEOUT)),
    (
        lambda facts: not facts.policy.public,
        (
            ErrorCode.CREDENTIAL_IN_URL,
            ErrorCode.UNAUTHENTICATED,
            ErrorCode.INVALID_CREDENTIALS,
            ErrorCode.CREDENTIALS_EXPIRED,
            ErrorCode.CREDENTIALS_REVOKED,
            ErrorCode.PERMISSION_DENIED,
            ErrorCode.ACCOUNT_SUSPENDED,
            ErrorCode.RATE_LIMITED,
        ),
    ),
    (lambda facts: not facts.policy.public and facts.method in UNSAFE, (ErrorCode.CSRF_FAILED,)),
    (lambda facts: bool(facts.parameters), (ErrorCode.INVALID_PARAMETER,)),
    (lambda facts: bool(facts.body_types), (ErrorCode.PAYLOAD_TOO_LARGE,)),
    (
        lambda facts: "application/json" in facts.body_types,
        (ErrorCode.INVALID_PARAMETER, ErrorCode.MALFORMED_BODY),
    ),
    (
        lambda facts: IDEMPOTENCY_KEY in facts.parameters,
        (ErrorCode.IDEMPOTENCY_IN_FLIGHT, ErrorCode.IDEMPOTENCY_KEY_REUSED),
    ),
)


def codes(facts: Facts, stated: Iterable[ErrorCode]) -> list[ErrorCode]:
    """Every code the operation may answer with, in the order of the enum."""
    found = set(stated).union(*(added for holds, added in _RULES if holds(facts)))
    return [code for code in ErrorCode if code in found]
