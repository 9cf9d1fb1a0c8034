"""Answers are the same however they are cut into packets; what is no answer is an error and not a hang."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from benchmarks.api.client import ConnectionLostError
from benchmarks.serve_load.audio import PcmCheck
from benchmarks.serve_load.server import Server
from benchmarks.serve_load.wire import Body, Connection

BODY = bytes(range(256)) + b"\r\n0\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length:%d\r\nX-Word:  Yes \r\n\r\n" % len(BODY) + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"%x;a=b\r\n" % 200 + BODY[:200] + b"\r\n%X\r\n" % (len(BODY) - 200) + BODY[200:] + b"\r\n0\r\n\r\n"
)
CLOSED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY
EARLY = b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED


class Wire(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


async def asked(connection: Connection) -> tuple[Body, asyncio.Task[None]]:
    body = Body()
    asking = asyncio.create_task(connection.ask(b"GET / HTTP/1.1\r\n\r\n", body))
    await asyncio.sleep(0)
    return body, asking


def connected() -> tuple[Connection, Wire]:
    connection, wire = Connection(), Wire()
    connection.connection_made(wire)
    return connection, wire


@pytest.mark.parametrize("answer", [SIZED, CHUNKED, CLOSED, EARLY], ids=["sized", "chunked", "closed", "early"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
async def test_any_packets(answer: bytes, size: int) -> None:
    connection, wire = connected()
    taken: list[bytes] = []
    for _ in range(1 if answer is CLOSED else 2):  # a connection that may stay is used again
        body, asking = await asked(connection)
        body.data = lambda data, at: taken.append(data)  # type: ignore[method-assign]
        taken.clear()
        for start in range(0, len(answer), size):
            connection.data_received(answer[start : start + size])
        if answer is CLOSED:
            connection.connection_lost(None)
        await asking
        assert (body.status, b"".join(taken)) == (200, BODY)
    assert wire.sent.startswith(b"GET /")
    assert connection.is_open is (answer is not CLOSED)


@pytest.mark.parametrize(
    "answer", [b"", SIZED[:-1], CHUNKED[:-1], b"SSH-2.0-OpenSSH\r\n\r\n", CHUNKED.replace(b"c8;", b"xx;")]
)
async def test_what_is_no_whole_answer_is_lost(answer: bytes) -> None:
    connection, _ = connected()
    _, asking = await asked(connection)
    connection.data_received(answer)
    connection.connection_lost(None)
    with pytest.raises(ConnectionLostError):
        await asking


async def test_a_connection_that_the_server_closed_meanwhile_costs_nothing() -> None:
    """Kept open, closed behind the client's back: the next call goes out on a new one."""
    calls = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        await reader.readuntil(b"\r\n\r\n")
        calls += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(once, "127.0.0.1", 0) as listening:
        server = Server(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/base/")
        request = server.request("GET", "/x", "key")
        assert b"GET /base/x HTTP/1.1\r\n" in request
        for _ in range(3):
            assert (await server.call(request)).json() == {}
        server.close()
    assert calls == 3


# -------------------------------------------------------------------------------------------------------------- audio


def sine(amplitude: float, samples: int = 4000) -> bytes:
    return (amplitude * np.sin(np.arange(samples) / 9)).astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("data", "is_valid"),
    [
        (sine(20_000), True),
        (sine(3), False),  # silence
        (sine(20_000)[:-2], False),  # one sample short
        (sine(20_000) + b"\0", False),  # half a sample more
        (np.full(4000, -32_768, "<i2").tobytes(), False),  # all clipped
        (np.concatenate([np.full(39, 32_767), np.full(3961, 900)]).astype("<i2").tobytes(), True),  # under 1 %
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 1000, 100_000])
def test_audio_is_checked_as_it_comes(data: bytes, is_valid: bool, piece: int) -> None:
    check = PcmCheck(1, 4000)
    count = sum(check.take(data[start : start + piece]) for start in range(0, len(data), piece))
    assert count == check.samples == len(data) // 2
    assert check.is_valid is is_valid


def test_a_frame_of_two_channels_is_one_sample() -> None:
    check = PcmCheck(2, 2000)
    assert check.take(sine(20_000)[:-1]) == 1999
    assert check.take(sine(20_000)[-1:]) == 1
    assert check.is_valid
