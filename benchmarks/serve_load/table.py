"""The report as people read it in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_LITTLE = 0.01  # share of all processor time below which a process is not named
VERDICT_STYLES = {"pass": "green", "fail": "bold red", "unresolved": "yellow", "invalid": "bold red"}


def show(result: Mapping[str, Any], console: Console) -> None:
    """Schedule, groups, objectives, and the verdict; the reasons not to believe it first, if there are any."""
    schedule, generator = result["schedule"], result["generator"]
    cv = "" if schedule["cv"] is None else f", CV of the gaps {schedule['cv']:.2f}"
    peak = "" if schedule["peak_to_mean"] is None else f", busiest second {schedule['peak_to_mean']:.1f} times the mean"
    console.print(
        f"{schedule['requests']} requests at {schedule['rate']:.2f} a second{cv}{peak}; "
        f"{schedule['offered_audio_s_per_s']:.2f} s of audio asked for a second; "
        f"the first {result['window']['warm_up_s']:g} s are not looked at"
    )
    console.print(_groups(result))
    console.print(_objectives(result["objectives"]))
    for kind, found in result["faults"].items():
        told = ", ".join(f"{name} {count}" for name, count in found.items() if count)
        console.print(f"clients that misbehave, {kind}: {told}")
    for error, count in result["errors"].items():
        console.print(f"{count} × {error}")
    for broken in sorted(set(result["broken_promises"])):
        console.print(f"BROKEN PROMISE: {broken}", style="bold red")
    lag = generator["send_lag_s"]
    if lag is not None:
        console.print(f"sent {_ms(lag['p50'])} late at the median, {_ms(lag['p99'])} at p99, {_ms(lag['max'])} at most")
    if result["verdict"] == "invalid":
        console.print(
            f"INVALID: the generator was more than {_ms(generator['limit_s'])} late at p99, so that it measured "
            "itself: give it more --processes, or a machine of its own",
            style="bold red",
        )
    if processor := _processor(result):
        console.print(f"processor time, ms per second of audio: {processor}")
    total = result["total"]
    console.print(
        f"good audio {total['good_audio_s_per_s']:.2f} s/s of {total['offered_audio_s_per_s']:.2f} offered; "
        f"[{VERDICT_STYLES[result['verdict']]}]{result['verdict'].upper()}[/]"
    )


def _processor(result: Mapping[str, Any]) -> str:
    """Of each process of a platform on this machine, those that use next to nothing together."""
    audio_s, spent = sum(result["requests"]["audio_s"]), result.get("processor_s") or {}
    if not audio_s or not spent:
        return ""
    each = {name: 1000 * seconds / audio_s for name, seconds in spent.items()}
    listed = [f"{name} {ms:.1f}" for name, ms in each.items() if ms >= _LITTLE * sum(each.values())]
    return ", ".join([*listed, f"all {sum(each.values()):.1f}"])


def _groups(result: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("tier", "model", "mode"):
        table.add_column(name)
    for name in ("sent", "done", "refused", "failed", "first audio p50", "p95", "p99", "no stall", "good audio s/s"):
        table.add_column(name, justify="right")
    for group in [*result["groups"], {"tier": "all", "model": "", "mode": "", **result["total"]}]:
        failed = sum(group[name] for name in ("failed", "timeout", "invalid"))
        ttfa, stall_free = group["ttfa_s"], group["stall_free"]["share"]
        table.add_row(
            group["tier"],
            group["model"],
            group["mode"],
            *(str(group[name]) for name in ("sent", "completed")),
            str(group["refused"] + group["rate_limited"]),
            str(failed),
            *(_seconds(ttfa, name) for name in ("p50", "p95", "p99")),
            "" if stall_free is None else f"{stall_free:.1%}",
            f"{group['good_audio_s_per_s']:.2f}",
        )
    return table


def _objectives(lines: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("tier", "service level"):
        table.add_column(name)
    for name in ("good", "of", "share", "95 % interval", "objective"):
        table.add_column(name, justify="right")
    table.add_column("")
    for line in lines:
        low, high = line["interval"]
        within = "" if line["threshold_s"] is None else f" ≤ {line['threshold_s']:g} s"
        few = f" (needs {line['needed']})" if line["verdict"] == "unresolved" and line["total"] < line["needed"] else ""
        table.add_row(
            line["tier"],
            line["sli"] + within,
            str(line["good"]),
            str(line["total"]),
            f"{line['share']:.2%}",
            f"{low:.2%} … {high:.2%}",
            f"{line['objective']:.2%}",
            f"[{VERDICT_STYLES[line['verdict']]}]{line['verdict']}[/]{few}",
        )
    return table


def _seconds(quantiles: Mapping[str, Any] | None, name: str) -> str:
    return "" if quantiles is None else f"{quantiles[name]:.3f} s"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def show_search(search: Mapping[str, Any], console: Console) -> None:
    """Every trial of a saturation search, and what came of them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rate", "offered audio s/s", "good audio s/s", "first audio p50", "p95", "p99", "no stall", "refused"):
        table.add_column(name, justify="right")
    table.add_column("")
    for trial in search["trials"]:
        ttfa = trial["ttfa_s"] if trial["ttfa_s"]["p50"] is not None else None
        missed = f": {', '.join(trial['missed'])}" if trial["missed"] else ""
        table.add_row(
            f"{trial['rate']:.2f}",
            f"{trial['offered_audio_s_per_s']:.2f}",
            f"{trial['good_audio_s_per_s']:.2f}",
            *(_seconds(ttfa, name) for name in ("p50", "p95", "p99")),
            "" if trial["stall_free"] is None else f"{trial['stall_free']:.1%}",
            str(trial["refused"]),
            f"[{VERDICT_STYLES[trial['verdict']]}]{trial['verdict']}[/]{missed}",
        )
    console.print(table)
    console.print(_found(search))


def _found(search: Mapping[str, Any]) -> str:
    verdict = f"[{VERDICT_STYLES[search['verdict']]}]{search['verdict'].upper()}[/]"
    if search["max_rate"] is None:
        return f"No load was found that meets the objectives: {verdict}"
    above = f"; {search['missed_rate']:.2f} a second misses them" if search["missed_by"] == "objectives" else ""
    limit = "; the generator could not send more" if search["missed_by"] == "generator" else ""
    return (
        f"At most {search['max_good_audio_s_per_s']:.2f} s of good audio a second at the objectives, "
        f"{search['max_rate']:.2f} requests a second{above}{limit}: {verdict}"
    )
