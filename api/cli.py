"""The command line: ``tutti serve``, ``tutti generate``, ``tutti doctor``, ``tutti bench``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from api.cli_admin import admin
from api.cli_autoscaler import autoscaler
from api.cli_bench import bench
from api.cli_db import db
from api.cli_doctor import doctor
from api.cli_generate import generate
from api.cli_models import models
from api.cli_output import ExitCode, report_error, stderr
from api.cli_plan import plan
from api.cli_serve import serve
from api.cli_slo import slo
from api.version import VERSION
from models.errors import TuttiError

app = typer.Typer(
    name="tutti",
    help="Type a prompt, hear the music while it is being made.",
    epilog="Exit codes: 0 done · 1 it failed · 2 what was asked for cannot be · 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(serve)
app.command()(generate)
app.command()(doctor)
app.command()(plan)
app.add_typer(models, name="models")
app.add_typer(bench, name="bench")
app.add_typer(db, name="db")
app.add_typer(admin, name="admin")
app.add_typer(slo, name="slo")
app.add_typer(autoscaler, name="autoscaler")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tutti {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Say the version and stop.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Options of tutti itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors made on purpose end in one line, bugs in a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = int(get_command(app).main(args=given, prog_name="tutti", standalone_mode=False) or ExitCode.OK)
    except (TuttiError, OSError, typer.TyperException) as error:
        return report_error(error, as_json="--json" in given)
    if code == ExitCode.INTERRUPTED:
        stderr.print("Interrupted.")
    return code


if __name__ == "__main__":
    sys.exit(main())
