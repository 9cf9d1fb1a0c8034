"""Whose address counts, with proxies before the server and with clients that claim to be one."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import uvicorn
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from api.auth.client_address import UNKNOWN, ClientAddress, parse_networks
from deployments import local_ray
from tests.api.auth.calls import PASSWORD, client, code
from tests.api.auth.conftest import Platform, production

PROXIES = "10.0.0.0/8, 192.0.2.1, 2001:db8:1::/48"
address_of = ClientAddress(parse_networks(PROXIES))


def called(peer: str | None, *headers: str) -> HTTPConnection:
    """A request from this peer with these lines of X-Forwarded-For."""
    sent = [(b"x-forwarded-for", line.encode("latin-1")) for line in headers]
    return HTTPConnection({"type": "http", "client": None if peer is None else (peer, 5), "headers": sent})


TOLD = [
    ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
    ("192.0.2.1", ["203.0.113.9"], "203.0.113.9"),
    ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
    ("2001:db8:1::7", ["2001:DB8:2:0::9"], "2001:db8:2::9"),
    ("10.0.0.1", ["203.0.113.9, 10.9.9.9, 192.0.2.1"], "203.0.113.9"),
    ("10.0.0.1", ["203.0.113.9", "10.9.9.9"], "203.0.113.9"),
    ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
    ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
    ("10.0.0.1", ["[2001:db8:2::9]:4711"], "2001:db8:2::9"),
    ("10.0.0.1", ["[2001:db8:2::9]"], "2001:db8:2::9"),
    ("10.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
]


@pytest.mark.parametrize(("peer", "headers", "expected"), TOLD)
def test_a_trusted_proxy_tells_the_address(peer: str, headers: list[str], expected: str) -> None:
    assert address_of(called(peer, *headers)) == expected


@pytest.mark.parametrize("claimed", ["198.51.100.1", "10.0.0.1", "127.0.0.1", "junk", "198.51.100.1, 10.0.0.1"])
def test_what_a_client_claims_counts_for_nothing(claimed: str) -> None:
    assert address_of(called("203.0.113.9", claimed)) == "203.0.113.9", "straight to the server"
    assert address_of(called("10.0.0.1", f"{claimed}, 203.0.113.9")) == "203.0.113.9", "the proxy appends"
    assert address_of(called("10.0.0.1", claimed, "203.0.113.9, 10.0.0.2")) == "203.0.113.9", "in a line of its own"


@pytest.mark.parametrize(
    "header",
    ["", "unknown", "203.0.113", "203.0.113.9,", "203.0.113.9, ,10.0.0.2", "_hidden, 10.0.0.2", "[::1", "é", "1:2:3"],
)
def test_a_header_that_is_no_list_of_addresses_is_ignored(header: str) -> None:
    assert address_of(called("10.0.0.1", header)) == "10.0.0.1"


def test_without_a_header_the_peer_counts() -> None:
    assert address_of(called("10.0.0.1")) == "10.0.0.1"


@pytest.mark.parametrize("peer", ["", "testclient", None])
def test_a_peer_without_an_address_is_no_proxy(peer: str | None) -> None:
    assert address_of(called(peer, "203.0.113.9")) == (UNKNOWN if peer is None else peer)


def test_by_default_nobody_is_trusted() -> None:
    assert parse_networks("") == parse_networks(" ") == ()
    assert ClientAddress(())(called("127.0.0.1", "203.0.113.9")) == "127.0.0.1"


# ----------------------------------------------------------------------------------------------- limits
async def registered(platform: Platform, times: int, *, peer: str, told: str) -> list[str]:
    """So many registrations over one peer; what each was answered."""
    answers = []
    async with client(platform, address=(peer, 5), x_forwarded_for=told) as http:
        for attempt in range(times):
            body = {"email": f"{told[:8]}{attempt}@example.com", "password": PASSWORD}
            answer = await http.post("/api/v1/auth/register", json=body)
            answers.append("made" if answer.status_code == 201 else code(answer))
    return answers


async def test_clients_behind_a_proxy_are_limited_one_by_one(make_platform: Callable[..., Platform]) -> None:
    platform = make_platform(**production(trusted_proxies="10.0.0.0/8"))
    assert await registered(platform, 11, peer="10.0.0.1", told="203.0.113.9") == ["made"] * 10 + ["rate_limited"]
    assert await registered(platform, 1, peer="10.0.0.1", told="198.51.100.7") == ["made"]


async def test_nobody_escapes_a_limit_by_claiming_addresses(make_platform: Callable[..., Platform]) -> None:
    platform = make_platform(**production(trusted_proxies="10.0.0.0/8"))
    direct = [(await registered(platform, 1, peer="203.0.113.9", told=f"{n}.1.1.1"))[0] for n in range(1, 12)]
    assert direct == ["made"] * 10 + ["rate_limited"]
    behind = [(await registered(platform, 1, peer="10.0.0.1", told=f"{n}.2.2.2, 203.0.113.9"))[0] for n in (1, 2)]
    assert behind == ["rate_limited"] * 2, "the same client"


# ---------------------------------------------------------------------------------- the server below us
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "203.0.113.9"])
async def test_the_server_below_does_not_believe_loopback_peers(monkeypatch: pytest.MonkeyPatch, peer: str) -> None:
    """uvicorn would put what they tell in the peer's place, before anybody here could look."""
    monkeypatch.setattr(os, "environ", {"RAY_AUTH_MODE": "token"})
    local_ray.prepare_environment()
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"][0])

    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    scope = {**called(peer, "198.51.100.1").scope, "http_version": "1.1", "method": "GET", "path": "/"}
    await config.loaded_app(scope, None, None)
    assert seen == [peer]
