"""One page with charts of a report of ``tutti bench serve``: nothing in it comes from elsewhere, so it can be kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.serve_load import charts
from benchmarks.serve_load.page_style import STYLE

Report = Mapping[str, Any]
_SLIS = {
    "ttfa": "time to first audio",
    "continuity": "continuity (stall)",
    "success": "success",
    "admission": "admission",
    "deadline": "deadline",
    "validity": "valid audio",
}


def page(report: Report) -> str:
    """HTML of a report with its requests."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Tutti: load test</title>\n<style>\n{STYLE}\n</style>\n<body>\n"
        + "\n".join(_sections(report))
        + "\n</body>\n</html>\n"
    )


def _sections(report: Report) -> Iterator[str]:
    yield from _head(report)
    if "search" in report:
        yield from _search(report)
    yield "<h2>Service levels</h2>" + _objectives(report)
    yield _figure("Time to first audio", charts.first_audio_distribution(report), "Streams of clients that behave.")
    yield _figure(
        "… over time",
        charts.first_audio_over_time(report),
        "Each dot is a stream, at the moment it was meant to be sent.",
    )
    yield _figure(
        "Goodput and offered load",
        charts.goodput_over_time(report),
        "As promised: seconds of audio of requests that met all of their service levels, by when they were asked for.",
    )
    yield _figure("Schedule", charts.schedule(report), _told(report))
    yield _figure(
        "Streams that never stood still", charts.stall_free(report), "A virtual player with 0.5 s of audio in advance."
    )
    yield _figure("Least audio in hand", charts.slack(report), "Of each listener; the leading indicator of stalls.")
    yield "<h2>By tier, model and mode</h2>" + _groups(report)
    yield from _misbehaviour(report)
    yield from _trust(report)


def _head(report: Report) -> Iterator[str]:
    verdict, total, settings = report["verdict"], report["total"], report["settings"]
    yield f"<h1>Load test {_pill(verdict)}</h1>"
    models = ", ".join(sorted({group["model"] for group in report["groups"]}))
    yield (
        f'<p class="soft">Profile {escape(settings["profile"])}, {report["schedule"]["rate"]:.2f} requests a second '
        f"for {settings['duration_s']:g} s; model {escape(models)}; {escape(report['target']['url'])}.</p>"
    )
    if verdict == "invalid":
        yield '<p class="warn">INVALID: the generator was late and measured itself. Believe no figure below.</p>'
    for broken in sorted(set(report["broken_promises"])):
        yield f'<p class="warn">Broken promise: {escape(broken)}</p>'
    ttfa, stall_free, lag = total["ttfa_s"], total["stall_free"]["share"], report["generator"]["send_lag_s"]
    tail = "" if ttfa is None else f"; p95 {ttfa['p95']:.2f} s, p99 {ttfa['p99']:.2f} s"
    cards = [
        (f"{total['good_audio_s_per_s']:.2f}", f"good audio s/s, of {total['offered_audio_s_per_s']:.2f} asked for"),
        ("–" if ttfa is None else f"{ttfa['p50']:.2f} s", f"to first audio, median{tail}"),
        ("–" if stall_free is None else f"{stall_free:.1%}", "of the streams never stood still"),
        (f"{total['completed']} of {total['sent']}", f"completed; {total['refused']} refused at the door"),
        ("–" if lag is None else f"{1000 * lag['p99']:.1f} ms", "generator's lag, p99 (10 ms at most)"),
    ]
    inner = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in cards
    )
    yield f'<div class="cards">{inner}</div>'


def _search(report: Report) -> Iterator[str]:
    search = report["search"]
    yield f"<h2>The platform's limit {_pill(search['verdict'])}</h2>"
    yield "<p>What follows below is the trial that was best.</p>" + charts.saturation(report)
    names = (
        "l:trial",
        "rate",
        "asked for s/s",
        "good s/s",
        "first audio p50",
        "p95",
        "p99",
        "no stall",
        "refused",
        "l:",
    )
    body = [
        (
            str(index + 1),
            f"{trial['rate']:.2f}",
            f"{trial['offered_audio_s_per_s']:.2f}",
            f"{trial['good_audio_s_per_s']:.2f}",
            *(_seconds(trial["ttfa_s"][name]) for name in ("p50", "p95", "p99")),
            "–" if trial["stall_free"] is None else f"{trial['stall_free']:.1%}",
            str(trial["refused"]),
            f"{_pill(trial['verdict'])} {escape(', '.join(trial['missed']))}",
        )
        for index, trial in enumerate(search["trials"])
    ]
    yield _table(names, body)


def _objectives(report: Report) -> str:
    names = ("l:tier", "l:service level", "within", "good", "of", "share", "95 % interval", "objective", "l:")
    body = []
    for line in report["objectives"]:
        low, high = line["interval"]
        is_few = line["verdict"] == "unresolved" and line["total"] < line["needed"]
        few = f' <span class="soft">needs {line["needed"]}</span>' if is_few else ""
        body.append((
            escape(line["tier"]), escape(_SLIS.get(line["sli"], line["sli"])),
            "" if line["threshold_s"] is None else f"{line['threshold_s']:g} s",
            str(line["good"]), str(line["total"]), f"{line['share']:.2%}", f"{low:.2%} – {high:.2%}",
            f"{line['objective']:.2%}", _pill(line["verdict"]) + few,
        ))  # fmt: skip
    return _table(names, body)


def _groups(report: Report) -> str:
    counted = [name for name in ("refused", "rate_limited", "failed", "timeout", "invalid") if report["total"][name]]
    names = ("l:tier", "l:model", "l:mode", "sent", "completed", *(name.replace("_", " ") for name in counted),
             "first audio p50", "p95", "p99", "took p50", "good s/s")  # fmt: skip
    body = []
    for group in [*report["groups"], {"tier": "all", "model": "", "mode": "", **report["total"]}]:
        ttfa, took = group["ttfa_s"] or {}, group["took_s"] or {}
        body.append((
            escape(group["tier"]), escape(group["model"]), escape(group["mode"]),
            *(str(group[name]) for name in ("sent", "completed", *counted)),
            *(_seconds(ttfa.get(name)) for name in ("p50", "p95", "p99")),
            _seconds(took.get("p50")), f"{group['good_audio_s_per_s']:.2f}",
        ))  # fmt: skip
    return _table(names, body)


def _misbehaviour(report: Report) -> Iterator[str]:
    if report["faults"]:
        yield "<h2>Clients that misbehave</h2><p class='soft'>They are no part of the figures above.</p>"
        body = [
            (escape(kind), escape(", ".join(f"{name} {count}" for name, count in found.items() if count)))
            for kind, found in report["faults"].items()
        ]
        yield _table(("l:fault", "l:what became of them"), body)
    if report["errors"]:
        body = [(escape(error), str(count)) for error, count in report["errors"].items()]
        yield "<h2>Errors</h2>" + _table(("l:error", "requests"), body)


def _trust(report: Report) -> Iterator[str]:
    lag, read = report["generator"]["send_lag_s"], report["generator"]["read_lag_s"]
    yield "<h2>May this be believed?</h2>"
    if lag is not None:
        reading = "" if read is None else f" Its event loops were {1000 * read['p99']:.1f} ms late at p99 when reading."
        yield (
            f"<p>Requests were sent {1000 * lag['p50']:.1f} ms late at the median, {1000 * lag['p99']:.1f} ms at p99 "
            f"and {1000 * lag['max']:.1f} ms at most, by {report['settings']['processes']} process(es); every time "
            f"counts from the moment a request was meant to be sent.{reading}</p>"
        )
    kept = {name: value for name, value in report.items() if name != "requests"}
    line = escape(json.dumps(kept, ensure_ascii=False, indent=1))
    yield f"<details><summary>All figures and settings</summary><pre>{line}</pre></details>"


def _told(report: Report) -> str:
    found = report["schedule"]
    cv = "" if found["cv"] is None else f" The gaps have a CV of {found['cv']:.2f};"
    peak = (
        "" if found["peak_to_mean"] is None else f" the busiest second has {found['peak_to_mean']:.1f} times the mean."
    )
    seed = report["settings"]["seed"]
    return f"{found['requests']} requests, computed beforehand from seed {seed}.{cv}{peak}"


def _figure(title: str, svg: str, note: str) -> str:
    return f'<h2>{escape(title)}</h2><p class="soft">{escape(note)}</p>{svg}' if svg else ""


def _table(names: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Cells are HTML; a name that begins with "l:" heads a column of words."""
    left = [name.startswith("l:") for name in names]
    head = "".join(
        f"<th{_class(is_left)}>{escape(name.removeprefix('l:'))}</th>"
        for name, is_left in zip(names, left, strict=True)
    )
    lines = "".join(
        "<tr>" + "".join(f"<td{_class(is_left)}>{cell}</td>" for cell, is_left in zip(row, left, strict=True)) + "</tr>"
        for row in body
    )
    return f'<div class="wide"><table><tr>{head}</tr>{lines}</table></div>'


def _class(is_left: bool) -> str:
    return ' class="l"' if is_left else ""


def _pill(verdict: str) -> str:
    return f'<span class="pill {escape(verdict)}">{escape(verdict)}</span>'


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f} s"
