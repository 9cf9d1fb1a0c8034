"""The one statement that SQLAlchemy spells per dialect."""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert(conn: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say ON CONFLICT."""
    return insert_into(conn.dialect.name, table)


def insert_into(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """The same, for whoever keeps the statement."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
