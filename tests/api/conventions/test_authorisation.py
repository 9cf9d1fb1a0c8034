"""Who may do what, tried on every route of the application's own table: nothing here names a route that is protected.

A route without a policy stops the start (``policies``). A public one must stand in ``PUBLIC``: that is a decision. Of
every other route the credentials that do not suffice are refused, and what belongs to another account is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi import FastAPI

from api.auth.policy import Policy, policies
from api.auth.principal import ALL_SCOPES, Role
from api.openapi import operations
from tests.api.asgi import open_websocket
from tests.api.conventions.resources import owned
from tests.api.platform import Kind, Platform

PUBLIC = {
    "/", "/errors", "/web/{name}", "/openapi.json", "/health", "/health/ready", "/version",
    "/metrics", "/metrics/targets",  # this machine, or a token of their own
    "/api/v1/models", "/api/v1/models/{model_id}", "/api/v1/tiers",
    "/api/v1/auth/register", "/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/logout",
    "/api/v1/ws",  # opened with a ticket
}  # fmt: skip
NOT_OWNED = frozenset({"model_id", "name"})
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
Route = tuple[str, str]


def protected(app: FastAPI) -> dict[Route, Policy]:
    return {route: policy for route, policy in policies(app).items() if not policy.public}


def over_http(app: FastAPI) -> dict[Route, Policy]:
    return {route: policy for route, policy in protected(app).items() if route[0] != "WEBSOCKET"}


def with_an_id(app: FastAPI) -> list[Route]:
    """Protected routes whose path names something that belongs to an account."""
    return [route for route in over_http(app) if set(_PARAMETER.findall(route[1])) - NOT_OWNED]


def addressed(path: str, ids: Mapping[str, str]) -> str:
    return _PARAMETER.sub(lambda match: ids[match[1]], path)


def example_bodies(app: FastAPI) -> dict[Route, Any]:
    """Of every operation with a JSON body, the first example of its schema: a body that would be accepted."""
    document = app.openapi()
    found = {}
    for path, method, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None:
            schema = content["schema"].get("anyOf", [content["schema"]])[0]
            name = schema["$ref"].rpartition("/")[2]
            found[method.upper(), path] = document["components"]["schemas"][name]["examples"][0]
    return found


def anything(path: str) -> str:
    """The path with ids that nobody has."""
    return _PARAMETER.sub("gen_000000000000000000000000", path)


async def refusals(platform: Platform, key: str | None, routes: list[Route]) -> dict[Route, tuple[int, str | None]]:
    """Status and code of what each route says to a credential."""
    http = await platform.connect(key)
    bodies = example_bodies(platform.app)
    found = {}
    for method, path in routes:
        answer = await http.request(method, anything(path), json=bodies.get((method, path)))
        found[method, path] = (answer.status_code, answer.headers.get("x-error-code"))
    return found


def test_public_routes_are_those_that_somebody_decided_on(platform_app: FastAPI) -> None:
    assert {path for (_, path), policy in policies(platform_app).items() if policy.public} == PUBLIC


@pytest.fixture
def platform_app(platform: Platform) -> FastAPI:
    return platform.app


@pytest.mark.parametrize(
    ("kind", "code"),
    [("anonymous", "unauthenticated"), ("expired", "credentials_expired"), ("revoked", "credentials_revoked")],
)
async def test_credentials_of_no_use_are_refused_everywhere(platform: Platform, kind: Kind, code: str) -> None:
    routes = list(over_http(platform.app))
    found = await refusals(platform, await platform.key_of(kind), routes)
    assert {route: said for route, said in found.items() if said != (401, code)} == {}
    assert len(found) > 20


async def test_a_key_without_the_scope_is_refused(platform: Platform) -> None:
    account = await platform.account(Role.ADMIN)
    wrong = {}
    for route, policy in over_http(platform.app).items():
        for scope in policy.scopes:
            key = await platform.key(account, ALL_SCOPES - {scope})
            found = await refusals(platform, key, [route])
            if found[route] != (403, "permission_denied"):
                wrong[route, scope] = found[route]
    assert wrong == {}


async def test_every_protected_route_needs_a_scope_or_a_role(platform: Platform) -> None:
    assert {
        route for route, policy in protected(platform.app).items() if not policy.scopes and policy.role is Role.USER
    } == set()


async def test_a_role_that_does_not_suffice_is_refused(platform: Platform) -> None:
    wanted = [route for route, policy in over_http(platform.app).items() if policy.role is not Role.USER]
    found = await refusals(platform, await platform.key_of("owner"), wanted)
    assert {route: said for route, said in found.items() if said != (403, "permission_denied")} == {}


async def test_what_belongs_to_another_account_is_not_there(peopled: Platform) -> None:
    """Foreign ids answer 404 with every method, and afterwards everything is as it was."""
    ids = await owned(await peopled.client("owner"))
    unknown = (
        {name for _, path in with_an_id(peopled.app) for name in _PARAMETER.findall(path)} - ids.keys() - NOT_OWNED
    )
    assert unknown == set(), "tests/api/conventions/resources.py must make one of these"
    owner, other = await peopled.client("owner"), await peopled.client("other")
    bodies = example_bodies(peopled.app)
    before = await seen_by_owner(peopled, ids)

    leaks = {}
    for method, path in with_an_id(peopled.app):
        answer = await other.request(method, addressed(path, ids), json=bodies.get((method, path)))
        if answer.status_code != 404 or any(one in answer.text for one in ids.values()):
            leaks[method, path] = (answer.status_code, answer.text[:200])
    assert leaks == {}

    assert await seen_by_owner(peopled, ids) == before
    gone = [path for path in before if (await owner.get(path)).status_code != 200]
    assert gone == []


async def test_lists_show_nothing_of_another_account(peopled: Platform) -> None:
    ids = await owned(await peopled.client("owner"))
    other = await peopled.client("other")
    leaks = {}
    for method, path in over_http(peopled.app):
        if method == "GET" and not _PARAMETER.search(path):
            answer = await other.get(path)
            if any(one in answer.text for one in [*ids.values(), peopled.accounts["owner"]]):
                leaks[path] = answer.text[:200]
    assert leaks == {}


async def test_websockets_refuse_whoever_has_no_credential(platform: Platform) -> None:
    for method, path in policies(platform.app):
        if method == "WEBSOCKET":
            start, *_ = await open_websocket(platform.app, path)
            assert (start["type"], start["status"]) == ("websocket.http.response.start", 401), path


async def seen_by_owner(platform: Platform, ids: Mapping[str, str]) -> dict[str, Any]:
    """Every JSON document about the owner's things, as the owner gets it; what time alone changes is left out."""
    http = await platform.client("owner")
    found = {}
    for method, path in with_an_id(platform.app):
        if method != "GET" or path.endswith("/events"):
            continue
        answer = await http.get(addressed(path, ids))
        assert answer.status_code == 200, (path, answer.text)
        is_json = answer.headers["content-type"] == "application/json"
        found[addressed(path, ids)] = _settled(answer.json()) if is_json else answer.content
    assert found
    return found


def _settled(document: Any) -> str:
    """Without what the platform itself changes meanwhile: when a key was used, how a delivery goes."""
    text = json.dumps(document, sort_keys=True)
    return re.sub(r'"(last_used_at|attempts|next_attempt_at|state|duration_ms|at|finished_at)": [^,}\]]+', "", text)
