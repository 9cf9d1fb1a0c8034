"""Another process's lock on the same database."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from sqlalchemy import make_url

from api.store.database import Database


@asynccontextmanager
async def writing_elsewhere(database: Database) -> AsyncIterator[None]:
    """A second process's transaction, as far as this one can tell: another Database."""
    if database.dialect == "postgresql":
        yield
        return
    file = str(make_url(database.url).database)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")
