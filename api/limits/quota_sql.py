"""The statements of ``api.limits.quota``."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Literal

from sqlalchemy import (
    ColumnElement,
    Executable,
    Float,
    Integer,
    String,
    Update,
    and_,
    bindparam,
    case,
    false,
    literal,
    select,
    true,
    union_all,
    update,
)

from api.limits.sql import insert_into
from api.store.schema import usage_windows as table
from api.store.types import UtcDateTime

WindowName = Literal["hour", "day", "month"]
WINDOWS: tuple[WindowName, ...] = ("hour", "day", "month")
EPSILON_S = 1e-6  # sums of durations are floats: ten times 0.1 must fit into 1
_RESERVED = ["account_id", "window", "starts_at", "generations", "audio_s"]


@cache
def reserving(dialect: str, counted: frozenset[WindowName], measured: frozenset[WindowName]) -> Executable:
    """One row for each window, made or counted up where there is room; returns the windows in which there was.

    Built once: SQLAlchemy compiles an INSERT with several VALUES anew at every call, so the rows are a SELECT.

    Args:
        counted, measured: the windows with a limit on generations, and on seconds of audio.
    """
    taken, taken_audio_s = bindparam("taken", type_=Integer), bindparam("taken_audio_s", type_=Float)
    rows = [
        select(
            bindparam("account_id", type_=String),
            literal(window, String),
            bindparam(f"{window}_starts_at", type_=UtcDateTime),
            taken,
            taken_audio_s,
        ).where(true())  # without a WHERE, SQLite would take ON CONFLICT for the condition of a join
        for window in WINDOWS
    ]
    statement = insert_into(dialect, table).from_select(_RESERVED, union_all(*rows))
    room = [(table.c.window == window, _room(window, window in counted, window in measured)) for window in WINDOWS]
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={"generations": table.c.generations + taken, "audio_s": table.c.audio_s + taken_audio_s},
        where=case(*room, else_=false()),
    ).returning(table.c.window)


def _room(window: WindowName, counted: bool, measured: bool) -> ColumnElement[bool]:
    room: list[ColumnElement[bool]] = []
    if counted:
        taken = bindparam("taken", type_=Integer)
        room.append(table.c.generations + taken <= bindparam(f"{window}_generations", type_=Integer))
    if measured:
        taken_s = bindparam("taken_audio_s", type_=Float)
        room.append(table.c.audio_s + taken_s <= bindparam(f"{window}_audio_s", type_=Float))
    return and_(true(), *room)


def giving_back(account_id: str, window: WindowName, starts_at: datetime, generations: int, audio_s: float) -> Update:
    left_s = table.c.audio_s - audio_s
    # Sums of floats: what is left of nothing is nothing.
    return (
        update(table)
        .where(table.c.account_id == account_id, table.c.window == window, table.c.starts_at == starts_at)
        .values(generations=table.c.generations - generations, audio_s=case((left_s < EPSILON_S, 0.0), else_=left_s))
    )
