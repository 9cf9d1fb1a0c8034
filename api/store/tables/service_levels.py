"""How well it went: counts of good and bad events for the error budget."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Integer,
    String,
    Table,
)

from api.store.tables.base import ID_LENGTH, metadata
from api.store.types import UtcDateTime

# Each process writes the counts of its own slots of five minutes; the error budget is their sum.
slo_events = Table(
    "slo_events",
    metadata,
    Column("slot", UtcDateTime, primary_key=True),
    Column("replica", String(ID_LENGTH), primary_key=True),
    Column("sli", String(16), primary_key=True),
    Column("tier", String(32), primary_key=True),
    Column("good", Integer, nullable=False),
    Column("bad", Integer, nullable=False),
)
