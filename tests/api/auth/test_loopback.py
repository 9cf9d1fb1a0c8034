"""Who counts as this machine's own user."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection

from api.auth.loopback import is_local


def asked(client: tuple[str, int] | None, host: str | None, **headers: str) -> HTTPConnection:
    sent = {**({"host": host} if host is not None else {}), **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()]
    return HTTPConnection({"type": "http", "client": client, "headers": raw})


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST.",
        "127.0.0.1:8000",
        "127.9.9.9",
        "[::1]:8000",
        "tutti",
        "a.localhost:1",
    ],
)
def test_this_machine_is_local(client: str, host: str) -> None:
    assert is_local(asked((client, 5), host))


@pytest.mark.parametrize(
    "client", ["203.0.113.9", "10.0.0.1", "192.168.1.7", "::2", "::ffff:10.0.0.1", "", "unix", "127.0.0.1.evil.example"]
)
def test_other_machines_are_not(client: str) -> None:
    assert not is_local(asked((client, 5), "localhost"))


def test_a_client_without_an_address_is_not() -> None:
    assert not is_local(asked(None, "localhost"))


FOREIGN = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]:80", "", ":80", None]


@pytest.mark.parametrize("host", FOREIGN)
def test_a_page_that_rebinds_its_name_is_not(host: str | None) -> None:
    assert not is_local(asked(("127.0.0.1", 5), host))


@pytest.mark.parametrize("header", ["forwarded", "x_forwarded_for", "x_real_ip"])
def test_a_proxy_on_this_machine_speaks_for_others(header: str) -> None:
    assert not is_local(asked(("127.0.0.1", 5), "localhost", **{header: "127.0.0.1"}))
