"""``tutti doctor``: says what is missing or misconfigured and how to mend it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from api.cli_output import ExitCode, print_json
from api.doctor import Finding, Status, diagnose
from deployments.serve_config import DEFAULT_CONFIG

_MARKS = {Status.OK: "[green]✓[/]", Status.WARN: "[yellow]![/]", Status.FAIL: "[bold red]✗[/]"}


def doctor(
    config: Annotated[Path, typer.Option(help="The Serve config to check.", dir_okay=False)] = DEFAULT_CONFIG,
    port: Annotated[int, typer.Option(help="The port that tutti serve would use.", min=1, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="The address that tutti serve would use.")] = "127.0.0.1",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")] = False,
) -> None:
    """Check this machine and this checkout; exit 1 if something would keep tutti serve from working."""
    findings = diagnose(config, host, port)
    failed = [finding for finding in findings if finding.status is Status.FAIL]
    if json:
        print_json({"ok": not failed, "checks": [asdict(finding) for finding in findings]})
    else:
        _show(findings)
    raise typer.Exit(ExitCode.FAILED if failed else ExitCode.OK)


def _show(findings: list[Finding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(_MARKS[finding.status], finding.name, finding.detail)
        if finding.mend:
            table.add_row("", "", f"[bold]→ {finding.mend}[/]")
    Console(highlight=False).print(table)
