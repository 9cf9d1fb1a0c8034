"""``tutti slo preview``: any dashboard from a live Prometheus, as one page that needs no Grafana."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Annotated

import typer

from api.cli_output import print_json, stderr, usage_error

DEFAULT_PROMETHEUS = "http://127.0.0.1:9090"
_RUNBOOKS = Path(__file__).resolve().parents[1] / "dashboards" / "runbooks"
_VALUE = re.compile(r"[\w./:-]+")


def preview(
    prometheus: Annotated[str, typer.Option(help="URL of Prometheus.", metavar="URL")] = DEFAULT_PROMETHEUS,
    dashboard: Annotated[str, typer.Option(help="Name of a dashboard, or all.", metavar="NAME")] = "slo-overview",
    since: Annotated[str, typer.Option(help="How far back: 15m, 6h, 1d …", metavar="DURATION")] = "15m",
    out: Annotated[Path, typer.Option(help="The HTML file to write.", dir_okay=False)] = Path("tutti-slo.html"),
    model: Annotated[list[str] | None, typer.Option(help="Only this model; may be given again.")] = None,
    tier: Annotated[list[str] | None, typer.Option(help="Only this tier; may be given again.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")] = False,
) -> None:
    """Draw a dashboard from a live Prometheus into one static HTML page; panels without data say so."""
    from dashboards.preview import render
    from dashboards.preview.prometheus import Prometheus, seconds

    variables = {"model": _any_of("model", model), "tier": _any_of("tier", tier)}
    try:
        since_s = seconds(since)
    except ValueError as error:
        raise usage_error(f"--since: {error}.") from error
    shown = render.chosen(dashboard)
    with Prometheus(prometheus) as server:
        made = render.preview(
            server, shown, since_s=since_s, end=time.time(), variables=variables, runbooks=_runbooks(out)
        )
    out.write_text(made.html, encoding="utf-8")
    if json:
        lacking = [dict(zip(("dashboard", "panel", "reason"), each, strict=True)) for each in made.lacking]
        print_json({"file": str(out), "panels": made.panels, "lacking": lacking})
        return
    for name, panel, reason in made.lacking:
        stderr.print(f"{name}: {panel}: {reason}", markup=False)
    typer.echo(f"{out}: {made.panels} panels, {len(made.lacking)} without data")


def _any_of(option: str, values: list[str] | None) -> str:
    """A regular expression; everything of nothing."""
    wrong = [value for value in values or () if not _VALUE.fullmatch(value)]
    if wrong:
        raise usage_error(f"--{option}: {wrong[0]!r} is no {option}'s name: letters, digits and . / : _ - only.")
    return "|".join(values or ())


def _runbooks(out: Path) -> str:
    """The folder of the runbooks as seen from the page; "" where they are not."""
    return Path(os.path.relpath(_RUNBOOKS, out.resolve().parent)).as_posix() if _RUNBOOKS.is_dir() else ""
