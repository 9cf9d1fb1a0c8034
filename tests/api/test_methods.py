"""Over the whole route table: an address answers another method with 405 and names all those that it takes."""

from __future__ import annotations

import re

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts

from api.methods import Methods

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def table(app: FastAPI) -> dict[str, set[str]]:
    """Path with its parameters → methods."""
    found: dict[str, set[str]] = {}
    for route in iter_route_contexts(app.routes):
        if route.methods:
            found.setdefault(str(route.path), set()).update(route.methods)
    return found


def filled(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "gen_0123456789abcdef01234567", path)


async def test_every_address_names_all_the_methods_that_it_takes(app: FastAPI, client: httpx2.AsyncClient) -> None:
    routes = table(app)
    assert len(routes) > 30
    for path, methods in routes.items():
        for method in set(METHODS) - methods:
            answer = await client.request(method, filled(path))
            told = f"{method} {path}: {answer.status_code}"
            assert (answer.status_code, answer.headers.get("x-error-code")) == (405, "method_not_allowed"), told
            assert answer.headers["allow"] == ", ".join(sorted(methods)), told


async def test_an_address_that_looks_like_another_ones_parameter_is_counted_as_itself(
    client: httpx2.AsyncClient,
) -> None:
    assert (await client.get("/api/v1/generate/stream")).headers["allow"] == "POST"
    text = (await client.get("/metrics")).text
    assert 'tutti_http_requests_total{method="GET",route="/api/v1/generate/stream",status="405"} 1.0' in text


async def test_what_has_no_route_is_not_found(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/api/v1/nope")).status_code == 404


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/things/one", {"POST"}),  # written out, whatever the parameter beside it takes
        ("/things/two", {"GET", "DELETE"}),
        ("/things", {"GET", "POST"}),
        ("/things/two/parts", {"GET"}),
        ("/nothing", set()),
    ],
)
def test_the_table(path: str, methods: set[str]) -> None:
    router = APIRouter()

    async def answer() -> None: ...

    for route, method in [
        ("/things/{thing}", "GET"),
        ("/things/{thing}", "DELETE"),
        ("/things/one", "POST"),
        ("/things", "GET"),
        ("/things", "POST"),
        ("/things/{thing}/parts", "GET"),
    ]:
        router.add_api_route(route, answer, methods=[method])
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(router)
    assert Methods(app.routes).of(path) == methods
