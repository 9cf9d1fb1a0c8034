"""What tests of accounts ask a gateway again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from tests.api.auth.conftest import Platform

PASSWORD = "four calm violet trombones"
EMAIL = "ada@example.com"
REMOTE = ("203.0.113.9", 50_000)
LOOPBACK = ("127.0.0.1", 50_000)
PROFILE = "/api/v1/user/profile"


@asynccontextmanager
async def client(
    platform: Platform, *, base: str = "https://tutti.example", address: tuple[str, int] = REMOTE, **headers: str
) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(platform.app, raise_app_exceptions=False, client=address)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(transport=transport, base_url=base, headers=named) as connected:
        yield connected


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def register(client: httpx2.AsyncClient, email: str = EMAIL) -> dict[str, Any]:
    answer = await client.post("/api/v1/auth/register", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def make_key(client: httpx2.AsyncClient, token: str, **body: Any) -> dict[str, Any]:
    answer = await client.post("/api/v1/user/api-keys", json={"name": "studio", **body}, headers=bearer(token))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def code(answer: httpx2.Response) -> str:
    """The envelope's code, after a look at the rest of what every error promises."""
    error = answer.json()["error"]
    assert answer.headers["x-error-code"] == error["code"]
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith('Bearer realm="tutti"')
    return str(error["code"])
