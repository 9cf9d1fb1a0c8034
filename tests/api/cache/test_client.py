"""The pool waits instead of raising, keys have a prefix, and a dead server is named."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from api.cache import client
from api.cache.client import Cache
from api.cache.embedded import EmbeddedValkey


async def test_values_are_bytes_under_the_prefix(cache: Cache) -> None:
    key = cache.key("track", "gen_1", 0)
    assert key.endswith(":track:gen_1:0")
    await cache.redis.set(key, "ü")
    assert await cache.redis.get(key) == "ü".encode()
    assert await cache.check() is True


async def test_far_more_commands_than_connections(cache: Cache) -> None:
    counted = await asyncio.gather(*(cache.redis.incr(cache.key("n")) for _ in range(10 * client.MAX_CONNECTIONS)))
    assert sorted(counted) == list(range(1, 10 * client.MAX_CONNECTIONS + 1))


async def test_two_prefixes_share_a_server(valkey: EmbeddedValkey, cache: Cache) -> None:
    other = Cache.connect(valkey.url, prefix="other:")
    await cache.redis.set(cache.key("a"), 1)
    assert await other.redis.get(other.key("a")) is None
    await other.close()
    await other.close()


async def test_streams_have_one_shape(cache: Cache) -> None:
    """RESP2, as every reader of streams expects."""
    await cache.redis.xadd(cache.key("s"), {b"a": b"1"}, id="1-0")
    assert await cache.redis.xread({cache.key("s"): "0"}) == [[cache.key("s").encode(), [(b"1-0", {b"a": b"1"})]]]


async def test_a_server_that_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cache = Cache.connect(f"redis://:hush@127.0.0.1:{port}/0")
    answer = await cache.check()
    assert "does not answer" in str(answer)
    assert "TUTTI_REDIS_URL" in str(answer)
    assert "hush" not in str(answer)
    await cache.close()


async def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "COMMAND_TIMEOUT_S", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cache = Cache.connect(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        assert "does not answer" in str(await cache.check())
        await cache.close()


def test_an_address_that_is_none() -> None:
    with pytest.raises(ValueError, match="scheme"):
        Cache.connect("http://cache")


async def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    """Its connections take no options of TCP."""
    heard = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        heard.set()
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "valkey.sock"):
        cache = Cache.connect(f"unix://{tmp_path}/valkey.sock")
        assert "does not answer" in str(await cache.check())
        await cache.close()
    assert heard.is_set()
