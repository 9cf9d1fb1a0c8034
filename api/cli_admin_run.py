"""What the commands of ``tutti admin`` share: the way to the accounts, errors in one line, tables and JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from api.cli_output import CliError, ExitCode, print_json, usage_error

if TYPE_CHECKING:
    from api.auth.admin import Administration
    from api.auth.api_keys import ApiKey
    from api.auth.identity import Account

T = TypeVar("T")
Work = Callable[["Administration"], Awaitable[T]]

_PIPE_COLUMNS = 240
Who = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its email, or its id (acc_…).")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")]


def run(work: Work[T]) -> T:
    """Do something with the accounts of ``TUTTI_DATABASE_URL``.

    Raises:
        CliError: what was asked for cannot be, or the settings or the tiers file cannot be used.
        StoreError: the database does not answer or has another version's schema.
    """
    # Imported late: other commands need not wait for FastAPI and SQLAlchemy.
    from api.errors import ApiError
    from api.limits.tiers import TiersError
    from api.settings import SettingsError

    try:
        return asyncio.run(_run(work))
    except (SettingsError, TiersError) as error:
        raise usage_error(str(error)) from error
    except ApiError as error:
        exit_code = ExitCode.USAGE if error.status_code < 500 else ExitCode.FAILED
        raise CliError(error.message, error.code.value, exit_code) from error


async def _run(work: Work[T]) -> T:
    from api.auth.admin import administration
    from api.settings import Settings

    async with administration(Settings()) as admin:
        return await work(admin)


def checked(model_name: str, values: Mapping[str, Any]) -> Any:
    """The values as the HTTP API's request of that name would take them: the same rules for both.

    Raises:
        CliError: one of them is refused; it is not repeated.
    """
    from pydantic import ValidationError

    from api.schemas import api_keys, logins

    requests = (logins.Register, api_keys.CreateApiKey, api_keys.RotateApiKey)
    model = {request.__name__: request for request in requests}[model_name]
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        raise usage_error("; ".join(f"{each['loc'][0]}: {each['msg']}" for each in found)) from None


def one_line_of_stdin(what: str) -> str:
    """A secret from a pipe, where no list of processes and no shell history sees it.

    Raises:
        CliError: there is none.
    """
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise usage_error(f"no {what} came on stdin: pipe it in, in one line")
    return line


def account_fields(account: Account) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(account).items()}


def key_fields(key: ApiKey, now: datetime) -> dict[str, Any]:
    fields = {name: _plain(value) for name, value in asdict(key).items()}
    return {**fields, "scopes": sorted(key.scopes), "status": key.status(now)}


def show(data: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A table for people, one object with all fields for machines."""
    if as_json:
        print_json({"data": list(data)})
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), no_wrap=column == "id", overflow="fold")
    for row in data:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    # A pipe has no width: each row stays one line there.
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS).print(table)


def say(fields: Mapping[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(fields)
    else:
        typer.echo(sentence)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
