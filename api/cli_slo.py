"""``tutti slo``: what is made from ``dashboards/slo.yaml``, and how the service levels stand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from api.cli_generate import Key
from api.cli_output import CliError, print_json, usage_error
from api.cli_slo_preview import preview

# What builds is imported late: other commands need not wait for it.
slo = typer.Typer(help="Service levels: rules, alerts, runbooks, and how they stand.", no_args_is_help=True)
slo.command("preview")(preview)

_MADE_HERE = Path(__file__).resolve().parents[1] / "dashboards"


@slo.command("build")
def build(
    out: Annotated[Path, typer.Option(help="Folder to write to.", file_okay=False)] = _MADE_HERE,
    time_scale: Annotated[
        float, typer.Option(help="Divide every window by this, so that a test of minutes sees the alerts of a month.")
    ] = 1.0,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file is not up to date.")] = False,
    platform: Annotated[str, typer.Option(help="URL of Tutti, as Prometheus sees it.")] = "http://127.0.0.1:8000",
    prometheus: Annotated[str, typer.Option(help="HOST:PORT of Prometheus.")] = "127.0.0.1:9090",
    alertmanager: Annotated[str, typer.Option(help="HOST:PORT of Alertmanager.")] = "127.0.0.1:9093",
    metrics_token_file: Annotated[
        str | None, typer.Option(help="Where Prometheus finds TUTTI_METRICS_TOKEN in a file, if there is one.")
    ] = None,
    notify: Annotated[
        str | None, typer.Option(help="URL that Alertmanager posts to, with /page or /ticket behind it.")
    ] = None,
    runbooks: Annotated[
        str | None, typer.Option(help="Address of the folder of runbooks that alerts give.", show_default=False)
    ] = None,
) -> None:
    """Write rules, alerts, exports, configuration, runbooks and tests anew from dashboards/slo.yaml."""
    from dashboards.build import RUNBOOKS, Options, render_into, stale_files, write
    from dashboards.server_files import Addresses
    from dashboards.timescale import TimeScale

    told = notify.rstrip("/") if notify else None
    addresses = Addresses(
        platform=platform.rstrip("/"),
        prometheus=prometheus,
        alertmanager=alertmanager,
        token_file=metrics_token_file,
        notify=told,
    )
    options = Options(TimeScale(time_scale), addresses, (runbooks or RUNBOOKS).rstrip("/"))
    if out.resolve() == _MADE_HERE and options != Options() and not check:
        raise usage_error("The files of this checkout are made without options: name another folder with --out.")
    files = render_into(out, options)
    if check:
        _refuse_stale(stale_files(files, out), out)
        typer.echo(f"{out}: {len(files)} files are up to date.")
        return
    touched = write(files, out)
    for name in touched:
        typer.echo(f"{out / name}")
    typer.echo(f"{len(files)} files, {len(touched)} of them changed.")


@slo.command("status")
def status(
    url: Annotated[str, typer.Option(help="A running server.")] = "http://127.0.0.1:8000",
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="What the server says, on one line of stdout.")] = False,
) -> None:
    """Say which service levels are kept, how fast their budgets burn, and what is left; for operators."""
    from api.slo_status import as_table, fetch

    told = asyncio.run(fetch(url, key))
    if as_json:
        print_json(told)
    else:
        Console(soft_wrap=True).print(as_table(told))


def _refuse_stale(stale: list[str], out: Path) -> None:
    if stale:
        raise CliError(f"Not up to date in {out}: {', '.join(stale)}. Run: tutti slo build", "stale")
