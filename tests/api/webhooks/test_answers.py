"""What real servers answer, and what becomes of it: good answers, bad ones, none."""

from __future__ import annotations

import asyncio

import pytest

from api.webhooks.sender import EXCERPT_CHARACTERS, MAX_RESPONSE_BYTES
from tests.api.webhooks.conftest import HOST
from tests.api.webhooks.receiver import Received, Receiver, answer, receiving
from tests.api.webhooks.sending import post, sender


async def hang(_request: Received, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(receiver: Receiver, status: int) -> None:
    receiver.default = answer(status)
    assert (await post(receiver.url())).delivered


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 429, 500, 503, 599])
async def test_anything_else_is_not(receiver: Receiver, status: int) -> None:
    receiver.default = answer(status, b"no", retry_after="30")
    outcome = await post(receiver.url())
    assert (outcome.status, outcome.error, outcome.excerpt) == (status, f"answered {status}", "no")
    assert outcome.gone is (status == 410)
    assert outcome.retry_after_s == (30.0 if status in (429, 503) else None)


async def test_only_the_beginning_of_an_answer_is_read_and_less_is_kept(receiver: Receiver) -> None:
    written = 0

    async def endless(_request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        while True:
            writer.write(b"x" * 4096)
            written += 4096
            await writer.drain()

    receiver.default = endless
    outcome = await post(receiver.url())
    assert outcome.delivered
    assert outcome.excerpt == "x" * EXCERPT_CHARACTERS
    # What lies in the buffers of two sockets besides; nobody read it.
    assert written < MAX_RESPONSE_BYTES + 32 * 1024 * 1024


async def test_an_answer_that_is_no_text_can_be_stored(receiver: Receiver) -> None:
    receiver.default = answer(500, b"\0\xff\xfe" + "ü".encode() * 10)
    outcome = await post(receiver.url())
    assert outcome.excerpt == "���" + "ü" * 10


async def test_a_compressed_answer_stays_as_small_as_it_came(receiver: Receiver) -> None:
    import gzip

    receiver.default = answer(200, gzip.compress(b"x" * 50_000_000), content_encoding="gzip")
    outcome = await post(receiver.url())
    assert outcome.delivered
    assert len(outcome.excerpt or "") <= EXCERPT_CHARACTERS


async def test_a_receiver_that_never_answers(receiver: Receiver) -> None:
    receiver.default = hang
    outcome = await post(receiver.url(), sender(timeout_s=0.2))
    assert (outcome.status, outcome.error) == (None, "no answer within 0.2 s")


async def test_one_byte_at_a_time_does_not_stretch_the_limit(receiver: Receiver) -> None:
    async def drip(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(10_000):
            writer.write(b"x-drip: 1\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    receiver.default = drip
    outcome = await post(receiver.url(), sender(timeout_s=0.3))
    assert outcome.error == "no answer within 0.3 s"


async def test_a_name_server_that_hangs_is_within_the_limit_too() -> None:
    async def hanging(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    outcome = await post(f"https://{HOST}/", sender(names=hanging, timeout_s=0.1))
    assert outcome.error == "no answer within 0.1 s"


@pytest.mark.parametrize(("status", "delivered"), [(200, True), (500, False)])
async def test_a_status_counts_although_its_body_never_ends(receiver: Receiver, status: int, delivered: bool) -> None:
    async def stall(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 100\r\n\r\nbegun".encode())
        await asyncio.Event().wait()

    receiver.default = stall
    for timeout_s in (0.3, 1.0, 3.0, 10.0):  # until this machine is quick enough to hear the status within it
        outcome = await post(receiver.url(), sender(timeout_s=timeout_s))
        if outcome.excerpt is not None:
            break
    assert (outcome.status, outcome.delivered, outcome.excerpt) == (status, delivered, "begun")


@pytest.mark.parametrize(
    "garbage", [b"", b"\x16\x03\x01", b"SSH-2.0-OpenSSH_9.9\r\n", b"+PONG\r\n", b"HTTP/1.1 abc\r\n\r\n"]
)
async def test_what_is_no_http_is_an_outcome(receiver: Receiver, garbage: bytes) -> None:
    async def speak(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(garbage)

    receiver.default = speak
    outcome = await post(receiver.url())
    assert outcome.status is None
    assert outcome.error is not None
    assert len(outcome.error) <= 300


async def test_a_reset_connection_is_an_outcome(receiver: Receiver) -> None:
    async def reset(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    receiver.default = reset
    outcome = await post(receiver.url())
    assert outcome.error is not None
    assert outcome.status is None


async def test_nothing_listens(receiver: Receiver) -> None:
    async with receiving() as other:
        url = other.url()
    outcome = await post(url)
    assert (outcome.error or "").startswith("could not connect")
