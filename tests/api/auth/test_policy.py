"""Every route has exactly one policy, whatever way it came into the application."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.responses import Response
from starlette.routing import Route

from api.auth.policy import Policy, PolicyError, policies, public, refuse_unless, require
from api.auth.principal import Principal, Role, Scope
from api.errors import ApiError, ErrorCode

READER = Principal("acc_1", Role.USER, "free", frozenset({Scope.AUDIO_READ}), "api_key")


def _app(router: APIRouter) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(router)
    return app


def test_policies_are_read_from_parameters_routes_and_routers() -> None:
    router, nested = APIRouter(), APIRouter(prefix="/inner", dependencies=[Depends(public)])

    @router.post("/write")
    async def write(who: Annotated[Principal, Depends(require(Scope.AUDIO_WRITE, role=Role.OPERATOR))]) -> None: ...

    @router.api_route("/open", methods=["GET", "HEAD"], dependencies=[Depends(public)])
    async def opened() -> None: ...

    @nested.websocket("/ws")
    async def live() -> None: ...

    router.include_router(nested)
    assert policies(_app(router)) == {
        ("POST", "/write"): Policy(public=False, scopes=frozenset({Scope.AUDIO_WRITE}), role=Role.OPERATOR),
        ("GET", "/open"): Policy(public=True),
        ("HEAD", "/open"): Policy(public=True),
        ("WEBSOCKET", "/inner/ws"): Policy(public=True),
        ("GET", "/openapi.json"): Policy(public=True),
        ("HEAD", "/openapi.json"): Policy(public=True),
    }


def test_a_route_without_a_policy_is_named() -> None:
    router = APIRouter()

    @router.get("/forgotten")
    async def forgotten() -> None: ...

    with pytest.raises(PolicyError, match=r"GET /forgotten \(0\)"):
        policies(_app(router))


def test_a_route_with_two_policies_is_named() -> None:
    router = APIRouter(dependencies=[Depends(public)])

    @router.get("/both")
    async def both(who: Annotated[Principal, Depends(require())]) -> None: ...

    with pytest.raises(PolicyError, match=r"GET /both \(2\)"):
        policies(_app(router))


def test_a_plain_route_cannot_have_a_policy() -> None:
    async def endpoint(request: Any) -> Response:
        return Response()

    app = _app(APIRouter())
    app.router.routes.append(Route("/plain", endpoint))
    with pytest.raises(PolicyError, match=r"GET /plain \(0\).*HEAD /plain \(0\)"):
        policies(app)


def test_a_missing_scope_is_refused_and_named() -> None:
    with pytest.raises(ApiError) as refused:
        refuse_unless(READER, Policy(public=False, scopes=frozenset({Scope.AUDIO_READ, Scope.AUDIO_WRITE})))
    assert refused.value.code is ErrorCode.PERMISSION_DENIED
    assert refused.value.details == {"missing_scopes": ["audio:write"]}
    assert 'error="insufficient_scope", scope="audio:write"' in (refused.value.headers or {})["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("role", "needed", "allowed"),
    [
        (Role.USER, Role.USER, True),
        (Role.USER, Role.OPERATOR, False),
        (Role.OPERATOR, Role.OPERATOR, True),
        (Role.OPERATOR, Role.ADMIN, False),
        (Role.ADMIN, Role.OPERATOR, True),
    ],
)
def test_a_role_includes_the_lower_ones(role: Role, needed: Role, allowed: bool) -> None:
    asking, policy = replace(READER, role=role), Policy(public=False, role=needed)
    if allowed:
        refuse_unless(asking, policy)
        return
    with pytest.raises(ApiError) as refused:
        refuse_unless(asking, policy)
    assert refused.value.details == {"needed_role": needed.value}


def test_the_document_names_the_three_ways_to_ask() -> None:
    router = APIRouter()

    @router.get("/mine")
    async def mine(who: Annotated[Principal, Depends(require())]) -> None: ...

    document = _app(router).openapi()
    assert document["paths"]["/mine"]["get"]["security"] == [{"Bearer": []}, {"ApiKey": []}, {"Session": []}]
    schemes = document["components"]["securitySchemes"]
    assert schemes["Bearer"]["scheme"] == "bearer"
    assert schemes["ApiKey"]["in"] == "header"
    assert schemes["Session"]["in"] == "cookie"
    assert "parameters" not in document["paths"]["/mine"]["get"]
