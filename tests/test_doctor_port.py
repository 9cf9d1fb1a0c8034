"""What the doctor says of a port: free, taken by a stranger, or by a running Tutti."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from api.cache.embedded import EmbeddedValkey
from api.doctor import Status
from api.doctor_port import check_port
from api.version import VERSION
from tests.api.fakes import FakeGenerator
from tests.canned import Answer, answering, hanging_up, sending
from tests.served import serving


def test_a_port_that_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = check_port("127.0.0.1", port)
    assert (found.status, found.detail, found.mend) == (Status.OK, f"127.0.0.1:{port} is free", "")


def test_a_port_where_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = check_port("127.0.0.1", taken.getsockname()[1], patience_s=0.05)
    assert found.status is Status.FAIL
    assert "--port" in found.mend


@pytest.mark.parametrize(
    "answer",
    [sending(b'{"name": "another", "version": "1"}'), sending(b"[]"), sending(b"<html>", status=404), hanging_up],
)
def test_a_port_of_a_stranger(answer: Answer) -> None:
    with answering(answer) as server:
        found = check_port("127.0.0.1", int(urlsplit(server.url).port or 0))
    assert server.requests == ["GET /version"]
    assert found.status is Status.FAIL
    assert "stop what listens there" in found.mend


def test_a_port_of_a_running_tutti(tmp_path: Path) -> None:
    with EmbeddedValkey() as valkey, serving(valkey, tmp_path, FakeGenerator()) as served:
        port = int(urlsplit(served.url).port or 0)
        found = check_port("127.0.0.1", port)
    assert (found.status, found.mend) == (Status.OK, "")
    assert found.detail == f"127.0.0.1:{port}: Tutti {VERSION} is running there"
