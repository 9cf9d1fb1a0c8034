"""What tutti serve prepares before Ray, and that nothing of it is left behind."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from api.cache.embedded import CacheError, EmbeddedValkey
from api.cli import main
from api.local_services import local_services
from api.settings import Settings
from api.store.errors import StoreError


def test_everything_is_there_inside_the_block(data_dir: Path) -> None:
    with local_services(Settings()):
        url = os.environ["TUTTI_REDIS_URL"]
        assert Settings().redis_url == url  # what a child process reads
        with Redis.from_url(url) as redis:
            assert redis.ping()
        assert (data_dir / "secrets.json").exists()
        assert data_dir.stat().st_mode & 0o777 == 0o700
        with closing(sqlite3.connect(data_dir / "tutti.db")) as database:
            assert database.execute("SELECT count(*) FROM generations").fetchone() == (0,)
    assert "TUTTI_REDIS_URL" not in os.environ
    with Redis.from_url(url) as redis, pytest.raises(RedisConnectionError):
        redis.ping()
    with local_services(Settings()):  # and again, on what the first one made
        pass


def test_two_platforms_do_not_share_a_folder(data_dir: Path) -> None:
    with local_services(Settings()):
        del os.environ["TUTTI_REDIS_URL"]
        with pytest.raises(CacheError, match="another tutti serve uses"), local_services(Settings()):
            pass
        os.environ["TUTTI_REDIS_URL"] = "redis://restored"


def test_a_cache_that_is_given_is_used(valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_REDIS_URL", valkey.url)
    with local_services(Settings()):
        assert os.environ["TUTTI_REDIS_URL"] == valkey.url
    assert os.environ["TUTTI_REDIS_URL"] == valkey.url


def test_a_cache_that_does_not_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("TUTTI_REDIS_URL", f"redis://:hush@127.0.0.1:{port}/0")
    with pytest.raises(CacheError, match="is TUTTI_REDIS_URL right") as caught, local_services(Settings()):
        pass
    assert "hush" not in str(caught.value)


def test_a_schema_of_a_newer_version_is_refused(data_dir: Path) -> None:
    assert main(["db", "upgrade"]) == 0
    with closing(sqlite3.connect(data_dir / "tutti.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer version"), local_services(Settings()):
        pass


def test_db_upgrade_and_check(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir.mkdir()
    assert main(["db", "check"]) == 1
    assert "no schema yet: run `tutti db upgrade`" in capsys.readouterr().err
    assert main(["db", "upgrade"]) == 0
    assert main(["db", "check"]) == 0
    assert f"{data_dir}/tutti.db: the schema is this version's." in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "upgrade"])
def test_db_refuses_bad_settings(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUTTI_DATABASE_URL", "mysql://host/db")
    assert main(["db", command]) == 1
    assert "mysql is not supported" in capsys.readouterr().err
    monkeypatch.setenv("TUTTI_ENVIRONMENT", "production")
    assert main(["db", command]) == 2
    assert "TUTTI_SECRET_KEY" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "tutti.example"])
def test_development_is_not_for_others(host: str, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", host]) == 2
    assert "TUTTI_ENVIRONMENT=production" in capsys.readouterr().err
    assert not data_dir.exists()


def test_production_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TUTTI_ENVIRONMENT", "production")
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    told = capsys.readouterr().err
    assert "TUTTI_SECRET_KEY" in told
    assert "TUTTI_MASTER_KEYS" in told


def test_a_taken_port_is_named_before_anything_is_made(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another port" in capsys.readouterr().err
    assert not data_dir.exists()


def test_the_command_line_does_not_wait_for_the_store() -> None:
    code = "import sys, api.cli; print(*({'sqlalchemy', 'alembic', 'redis'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
