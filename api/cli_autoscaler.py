"""``tutti autoscaler``: what was decided lately about the number of replicas, and why.

The controller writes a line for each change to its standard error, which Ray keeps in the logs of its session: run this
on the machine that Serve's controller runs on (the head node of a cluster).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from api.cli_output import CliError, print_json

autoscaler = typer.Typer(help="The number of replicas of each model.", no_args_is_help=True)

LOGS: Final = Path("/tmp/ray/session_latest/logs")  # noqa: S108 - where Ray writes
_EVENTS: Final = ("autoscaler_decided", "autoscaler_held")
_REASONS: Final = {
    "demand": "for what is asked for now and the headroom over it",
    "backlog": "what waits could not be made in time otherwise",
    "panic": "far more is asked for than the replicas there can make; nothing is taken away for a minute",
    "floor": "as many as the file's min_replicas or warm_floor keep",
    "ceiling": "more would be needed, but max_replicas allows no more",
    "held": "they are not needed now, but kept for as long as starting them again would cost",
    "stale": "what is reported is too old or missing: nothing is changed",
    "gpus": "more would be needed, but the GPUs do not suffice",
}


@autoscaler.callback()
def _group() -> None:
    """A group, although it has one command."""


@autoscaler.command("explain")
def explain(
    logs: Annotated[Path, typer.Option(help="Folder of the logs of Ray's session.", file_okay=False)] = LOGS,
    model: Annotated[str | None, typer.Option(help="Only this model.", show_default=False)] = None,
    last: Annotated[int, typer.Option(help="So many decisions, the newest last.", min=1)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say what the autoscaler decided, and why."""
    told = sorted(_lines(logs), key=lambda line: str(line.get("timestamp")))
    decisions = [line for line in told if model is None or line.get("model", line.get("about")) == model][-last:]
    if not decisions:
        raise CliError(
            f"no decision is in {logs}: is the platform running on this machine, with autoscaling_policy in its Serve "
            "config? The folder of another session is given with --logs",
            "not_found",
        )
    if as_json:
        print_json({"decisions": decisions})
        return
    for line in decisions:
        typer.echo(in_words(line))


def in_words(line: Mapping[str, Any]) -> str:
    """One decision as two lines that people read; what a line lacks is left out."""
    when = str(line.get("timestamp", ""))[:19].replace("T", " ")
    if line.get("event") == "autoscaler_held":
        why = f"{line.get('error')}: {line.get('why')}"
        return f"{when}  {line.get('about')}: held where it is, for the policy failed ({why})"
    before, replicas = line.get("replicas_before"), line.get("replicas")
    change = f"{replicas} replicas" if before in (None, replicas) else f"{before} → {replicas} replicas"
    reason = str(line.get("reason"))
    components = {name: value for name, value in line.get("components", {}).items() if name in _PARTS}
    parts = "; ".join(f"{_PARTS[name]} {value:g}" for name, value in components.items())
    facts = "; ".join(f"{words} {line[name]:g}" for name, words in _FACTS.items() if line.get(name) is not None)
    return f"{when}  {line.get('model')}: {change} ({reason}): {_REASONS.get(reason, reason)}\n    " + "\n    ".join(
        part for part in (f"in replicas: {parts}" if parts else "", facts) if part
    )


_PARTS: Final = {"base": "asked for", "headroom": "headroom", "backlog": "backlog", "wish": "wish", "held": "held"}
_FACTS: Final = {
    "ready": "ready",
    "starting": "starting",
    "cold_start_s": "s for a start",
    "running_audio_s": "audio-s running",
    "waiting_audio_s": "audio-s waiting",
    "arriving_audio_s_per_s": "audio-s arriving per second",
    "age_s": "oldest report, s",
}


def _lines(logs: Path) -> Iterator[dict[str, Any]]:
    """What the controller told; a line that is being written is passed over."""
    for path in sorted(logs.glob("worker-*.err")):
        for text in path.read_text(errors="replace").splitlines():
            if text.startswith("{") and '"autoscaler_' in text:
                line = _parse(text)
                if line.get("event") in _EVENTS:
                    yield line


def _parse(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return line if isinstance(line, dict) else {}
