"""One page with charts of a result: nothing in it comes from elsewhere, so it can be sent and kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.svg import Bar, bar_chart

STYLE = """
:root { color-scheme: light dark; --ink: #1c1b22; --soft: #6a6775; --line: #e4e2ea;
  --page: #fcfbfd; --ours: #6d3bd1; --peer: #b9b4c7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eceaf2; --soft: #9a96a8; --line: #35323f; --page: #17161b; --ours: #a583f0; --peer: #565166; }
}
body { margin: 0 auto; max-width: 860px; padding: 40px 24px 64px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 28px; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 48px 0 4px; }
h3 { font-size: 15px; margin: 24px 0 4px; }
p { margin: 0 0 8px; } .soft { color: var(--soft); } code { font-size: 14px; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; font: 13px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .label { text-anchor: end; } svg .tick { text-anchor: middle; fill: var(--soft); }
svg .unit, svg .note { fill: var(--soft); } svg .figure { font-weight: 600; } svg .note { font-weight: 400; }
svg .grid { stroke: var(--line); } svg .spread { stroke: var(--ink); fill: none; stroke-width: 1.5; }
svg .ours { fill: var(--ours); } svg .peer { fill: var(--peer); }
svg .ceiling { fill: none; stroke: var(--soft); stroke-dasharray: 4 3; }
details { margin-top: 48px; } pre { overflow: auto; font-size: 12px; }
""".strip()


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """HTML of results of ``tutti bench engine`` or ``tutti bench peers``."""
    sections = "\n".join(section for result in results for section in _sections(result))
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Tutti: benchmark of the engine</title>\n<style>\n{STYLE}\n</style>\n"
        f"<body>\n{sections}\n</body>\n</html>\n"
    )


def _sections(result: Mapping[str, Any]) -> Iterator[str]:
    model, machine = result["model"], result["machine"]
    yield f"<h1>{escape(model['name'])}</h1>"
    yield (
        f'<p class="soft">Our weights in {escape(model["weights"])}; {model["parameters"] / 1e6:,.1f} million '
        f"parameters in all. {escape(', '.join(f'{key} {value}' for key, value in machine.items()))}.</p>"
    )
    yield f"<p>{escape(_parity(result['parity']))} Bars are medians, whiskers the smallest and the largest run.</p>"
    for run in result["runs"]:
        yield f"<h2>{escape(run['title'])}</h2>"
        yield from _open_loop(run) if run["workload"] == "poisson" else _together(run)
        yield from _missing(run)
    line = escape(json.dumps(result, ensure_ascii=False, indent=1))
    yield f"<details><summary>All figures</summary><pre>{line}</pre></details>"


def _parity(parity: Mapping[str, Any]) -> str:
    share = "all" if parity["equal"] == 1 else f"{parity['equal']:.0%}"
    return f"Of {parity['codes']} greedy codes, {share} are those of transformers in float32."


def _together(run: Mapping[str, Any]) -> Iterator[str]:
    """A set of streams that begin together."""
    ceiling = run["ceiling_steps_per_second"]
    share = f"{run['share_of_ceiling']:.0%} of the ceiling"
    bars = [Bar("ceiling", ceiling, ceiling, ceiling, "ceiling"), _bar("Tutti", run, "steps_per_second", "ours", share)]
    bars += [_bar(name, peer, "steps_per_second", "peer", _times(peer)) for name, peer in _ran(run)]
    yield "<h3>Steps per second: more is better</h3>" + bar_chart("Steps per second", "steps/s", bars)
    for key, title, unit in (
        ("realtime_factor", "Seconds of audio per second, codec included: more is better", "× real time"),
        ("time_to_first_audio_s", "Time to first audio: less is better", "s"),
    ):
        bars = [_bar("Tutti", run, key, "ours")] + [_bar(name, peer, key) for name, peer in _ran(run)]
        yield f"<h3>{title}</h3>" + bar_chart(title, unit, bars)


def _open_loop(run: Mapping[str, Any]) -> Iterator[str]:
    sides = [("Tutti", run, "ours"), *((name, peer, "peer") for name, peer in _ran(run))]
    for key, title in (
        ("first_audio_p50_s", "Time to first audio, median: less is better"),
        ("first_audio_p95_s", "Time to first audio, 95th percentile"),
        ("finished_p50_s", "Time to the whole track, median"),
    ):
        bars = [Bar(name, side[key], side[key], side[key], kind, _served(side)) for name, side, kind in sides]
        yield f"<h3>{title}</h3>" + bar_chart(title, "s", bars)


def _served(side: Mapping[str, Any]) -> str:
    return "" if side["finished_share"] == 1 else f"or more; {side['finished_share']:.0%} served"


def _bar(name: str, side: Mapping[str, Any], key: str, kind: str = "peer", note: str = "") -> Bar:
    low, high = side["spread"][key]
    return Bar(name, side[key], low, high, kind, note)


def _times(peer: Mapping[str, Any]) -> str:
    return f"we: {peer['ratio']:.2f}×"


def _ran(run: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, peer) for name, peer in run["peers"].items() if "missing" not in peer]


def _missing(run: Mapping[str, Any]) -> Iterator[str]:
    for name, peer in run["peers"].items():
        if "missing" in peer:
            yield f'<p class="soft">{escape(name)}: <code>{escape(peer["missing"])}</code></p>'
