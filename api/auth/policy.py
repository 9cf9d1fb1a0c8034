"""Who may call a route: exactly one policy per route, readable from the application and checked at its start.

A route says either ``principal: Annotated[Principal, Depends(require(Scope.GENERATIONS_READ))]`` or
``dependencies=[Depends(public)]``. A route that says neither, or both, stops the start: forgetting is no policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import FastAPI, Security
from fastapi.dependencies.models import Dependant
from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer, SecurityBase
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.security.base import SecurityBase as SecurityScheme
from starlette.requests import HTTPConnection

from api.auth.challenge import REALM
from api.auth.principal import Principal, Role, Scope
from api.errors import ApiError, ErrorCode

SESSION_COOKIE: Final = "__Host-tutti_session"
_WEBSOCKET = "WEBSOCKET"
# FastAPI's own route of the OpenAPI document takes no dependencies; it tells nothing that is not in the source.
_PUBLIC_PATHS = frozenset({"/openapi.json"})


class PolicyError(RuntimeError):
    """A route has no policy, or more than one: the message names it and says what to write."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a caller must have.

    Attributes:
        public: nothing at all; the rest is then empty.
        scopes: every one of them.
        role: this one or one that includes it.
    """

    public: bool
    scopes: frozenset[Scope] = frozenset()
    role: Role = Role.USER


class _Scheme(SecurityScheme):
    """An entry of the OpenAPI document; the reading of credentials is the account service's."""

    def __init__(self, model: SecurityBase, name: str) -> None:
        self.model = model
        self.scheme_name = name

    async def __call__(self) -> None:
        return None


_bearer = _Scheme(
    HTTPBearer(description="An access token of POST /api/v1/auth/login, or an API key", bearerFormat="JWT or API key"),
    "Bearer",
)
_api_key = _Scheme(
    APIKey.model_validate({"in": APIKeyIn.header, "name": "X-API-Key", "description": "sk_live_tt_… or sk_test_tt_…"}),
    "ApiKey",
)
_cookie = _Scheme(
    APIKey.model_validate(
        {
            "in": APIKeyIn.cookie,
            "name": SESSION_COOKIE,
            "description": "A browser's session; methods that change something also need the X-CSRF-Token header",
        }
    ),
    "Session",
)


class Require:
    """The dependency behind ``require``: resolves who is asking and refuses those who may not."""

    def __init__(self, scopes: frozenset[Scope], role: Role) -> None:
        self.policy = Policy(public=False, scopes=scopes, role=role)

    async def __call__(
        self,
        connection: HTTPConnection,
        _bearer: Annotated[None, Security(_bearer)],
        _api_key: Annotated[None, Security(_api_key)],
        _cookie: Annotated[None, Security(_cookie)],
    ) -> Principal:
        """The principal, also left in ``request.state.principal``.

        Raises:
            ApiError: 401 without a valid credential, 403 if its scopes or its account's role do not suffice.
        """
        principal: Principal = await connection.app.state.services.accounts.authenticate(connection)
        connection.state.principal = principal
        refuse_unless(principal, self.policy)
        return principal


def require(*scopes: Scope, role: Role = Role.USER) -> Require:
    """A dependency that returns the principal, who has all of these scopes and at least this role."""
    return Require(frozenset(scopes), role)


async def public() -> None:
    """The policy of routes that anybody may call."""


def refuse_unless(principal: Principal, policy: Policy) -> None:
    """
    Raises:
        ApiError: permission_denied, naming what is missing.
    """
    missing = sorted(policy.scopes - principal.scopes)
    if missing:
        raise ApiError(
            ErrorCode.PERMISSION_DENIED,
            f"this credential lacks the scope {', '.join(missing)}: use a key that has it",
            details={"missing_scopes": missing},
            headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{" ".join(missing)}"'},
        )
    if not principal.role.includes(policy.role):
        raise ApiError(
            ErrorCode.PERMISSION_DENIED,
            f"this needs the role {policy.role}: ask an administrator",
            details={"needed_role": policy.role.value},
        )


def policies(app: FastAPI) -> dict[tuple[str, str], Policy]:
    """Method ("WEBSOCKET" for those) and path of every route → its policy. Call it once after the last route is added.

    Raises:
        PolicyError: routes without exactly one, all of them named.
    """
    found: dict[tuple[str, str], Policy] = {}
    wrong: list[str] = []
    for route in iter_route_contexts(app.routes):
        path = route.path or repr(route.original_route)
        stated = list(_stated(route))
        methods = sorted(route.methods or {_WEBSOCKET})
        if len(stated) != 1:
            wrong += [f"{method} {path} ({len(stated)})" for method in methods]
            continue
        found |= {(method, path): stated[0] for method in methods}
    if wrong:
        raise PolicyError(
            "every route needs exactly one policy, Depends(require(…)) or Depends(public); "
            f"these have another number: {', '.join(wrong)}"
        )
    return found


def _stated(route: RouteContext) -> Iterator[Policy]:
    if route.path in _PUBLIC_PATHS:
        yield Policy(public=True)
        return
    dependant: Dependant | None = getattr(route, "dependant", None)  # plain Starlette routes have none
    if dependant is not None:
        yield from _policies_below(dependant)


def _policies_below(dependant: Dependant) -> Iterator[Policy]:
    for dependency in dependant.dependencies:
        call: Any = dependency.call
        if isinstance(call, Require):
            yield call.policy
        elif call is public:
            yield Policy(public=True)
        yield from _policies_below(dependency)
