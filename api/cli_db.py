"""``tutti db``: the database's schema, looked at and brought up to date."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

import typer

from api.cli_output import CliError, usage_error
from api.settings import Settings, SettingsError

if TYPE_CHECKING:
    from api.store.database import Database

# The store is imported late: other commands need not wait for SQLAlchemy.
db = typer.Typer(help="The database of TUTTI_DATABASE_URL (default: SQLite in the data folder).", no_args_is_help=True)


@db.command("upgrade")
def upgrade_schema() -> None:
    """Bring the schema to this version's; tutti serve does the same when it starts. Make a copy of the data before."""
    from api.store.database import migrate

    connected = _connect()
    asyncio.run(migrate(Settings().database_url))
    typer.echo(f"{connected.url}: the schema is this version's.")


@db.command("check")
def check_schema() -> None:
    """Say whether the database answers and has this version's schema; exit 1 if not."""
    connected = _connect()
    answer = asyncio.run(_check(connected))
    if answer is not True:
        raise CliError(answer, "not_ready")
    typer.echo(f"{connected.url}: the schema is this version's.")


async def _check(connected: Database) -> Literal[True] | str:
    from api.store.database import check

    try:
        return await check(connected)
    finally:
        await connected.close()


def _connect() -> Database:
    from api.store.database import Database

    try:
        return Database.connect(Settings().database_url)
    except SettingsError as error:
        raise usage_error(str(error)) from error
