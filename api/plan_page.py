"""The answer of ``tutti plan`` as one page of HTML with charts: nothing in it comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Final

from api import plan_charts as charts
from autoscaling.planner import Option, Plan
from dashboards.builder.look import Unit
from dashboards.preview.page import STYLE

_OWN: Final = """
main { max-width: 1200px; padding-bottom: 24px; } article { margin: 0 0 12px; } article svg { flex: none; }
svg .grid { display: inline; stroke: var(--grid); } svg .faint { opacity: 0.55; }
article > p { margin: 0 0 8px; color: var(--faint); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 12px 0; }
.cards article { margin: 0; padding: 12px; } .cards b { display: block; font-size: 20px; line-height: 1.25; }
.cards span { color: var(--faint); font-size: 12.5px; } .halves { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); }
table { margin-bottom: 4px; } tr.best td { font-weight: 600; } .bars { row-gap: 10px; padding: 8px 0; }
"""
_WIDTH, _HALF = 1126, 548  # of charts, in pixels of the widest page


@dataclass(frozen=True, slots=True)
class Asked:
    """What the plan was asked for, in words and figures.

    Attributes:
        traffic: as it was given.
        heard: tier → fraction that must hear something in time.
        within_s: tier → seconds.
        cold_start_s: of the ways that are compared.
        is_priced: costs mean something.
    """

    traffic: str
    heard: Mapping[str, float]
    within_s: Mapping[str, float]
    cold_start_s: float
    is_priced: bool


def page(plan: Plan, asked: Asked) -> str:
    """A whole document."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Tutti: capacity plan</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}{_OWN}</style>\n"
        f"<body><main>{''.join(_parts(plan, asked))}</main></body>\n</html>\n"
    )


def _parts(plan: Plan, asked: Asked) -> Iterator[str]:
    fixed, demand = plan.options
    yield (
        f"<header><div><h1>Capacity plan</h1><p>{plan.requests:,} requests in {plan.hours:.1f} hours "
        f"({escape(asked.traffic)}), simulated with the queue and the autoscaler that serve.</p></div></header>"
    )
    yield _cards(plan, asked)
    yield charts.chart(
        "Replicas",
        "Of each size: by the policy, and, dashed, the smallest fixed number that keeps every promise. Replicas that "
        "start or finish their last streams count. Hours and minutes since the beginning.",
        demand.course, charts.replicas(demand.course, fixed.course), _WIDTH, Unit.COUNT, 0.0,
    )  # fmt: skip
    traffic = charts.chart(
        "Asked for", "Seconds of audio, per second.", demand.course, charts.asked(demand.course), _HALF,
        Unit.AUDIO_SECONDS_PER_SECOND, 0.0,
    )  # fmt: skip
    gpus = charts.chart(
        "GPUs held", "Whole ones, with one replica or several on each.", demand.course,
        charts.gpus(demand.course, fixed.course), _HALF, Unit.COUNT, 0.0,
    )  # fmt: skip
    yield f'<div class="halves">{traffic}{gpus}</div>'
    heard = (f"{tier} {_percent(share)} % within {asked.within_s[tier]:g} s" for tier, share in asked.heard.items())
    yield charts.chart(
        "First audio in time, by the policy",
        f"Of the listeners who were let in. Promised over the whole time: {', '.join(heard)}.",
        demand.course, charts.heard(demand.course, asked.heard), _WIDTH, Unit.RATIO,
        charts.lowest(demand.course, asked.heard),
    )  # fmt: skip
    yield _bars(plan, asked)
    yield f"<article><h3>All ways</h3>{_table(plan, asked)}</article>"


def _ways(plan: Plan, asked: Asked) -> list[tuple[str, Option]]:
    names = {"fixed": "fixed number", "demand": f"policy, starts in {asked.cold_start_s:g} s"}
    ways = [(names[option.name], option) for option in plan.options]
    return ways + [(f"policy, starts in {seconds:g} s", option) for seconds, option in plan.what_if.items()]


def _cards(plan: Plan, asked: Asked) -> str:
    fixed, demand = plan.options
    best, other = (fixed, demand) if plan.best == "fixed" else (demand, fixed)
    advice = "a fixed number" if best is fixed else "the policy"
    kept = "keeps every promise" if best.meets else "no way keeps every promise"
    hours, others = best.report.held_gpu_hours, other.report.held_gpu_hours
    less = f"{abs(1 - hours / others):.0%} {'less' if hours <= others else 'more'} than" if others else "beside"
    cards = [
        (advice, f"is advised: {kept}"),
        (f"{hours:,.1f}", f"GPU-hours, {less} {'the policy' if best is fixed else 'a fixed number'}"),
        *([(f"{best.cost:,.2f}", f"cost; the other way {other.cost:,.2f}")] if asked.is_priced else []),
        (str(best.gpus), "GPUs at most"),
        (_replicas(fixed), "static floor: as many, always, keep the promises"),
    ]
    inner = "".join(f"<article><b>{escape(value)}</b><span>{escape(name)}</span></article>" for value, name in cards)
    return f'<div class="cards">{inner}</div>'


def _bars(plan: Plan, asked: Asked) -> str:
    """What each way costs; grey: it breaks a promise."""
    ways = _ways(plan, asked)
    values = [option.cost if asked.is_priced else option.report.held_gpu_hours for _, option in ways]
    most = max(values) or 1.0
    digits = 2 if asked.is_priced else 1
    rows = []
    for (name, option), value in zip(ways, values, strict=True):
        style = f"width:{100 * value / most:.1f}%;--c:var(--{'purple' if option.meets else 'soft'})"
        bar = f'<span class="bar"><i style="{style}"></i></span>'
        rows.append(f'<li><span class="name">{escape(name)}</span>{bar}<b>{value:,.{digits}f}</b></li>')
    what = "Cost" if asked.is_priced else "GPU-hours"
    says = "Of the whole time; what if replicas started faster, or slower? Grey: a promise is not kept."
    return f'<article><h3>{what}</h3><p>{says}</p><ul class="bars">{"".join(rows)}</ul></article>'


def _table(plan: Plan, asked: Asked) -> str:
    tiers = " / ".join(plan.options[0].report.tiers)
    names = ["", "replicas", "GPUs at most", "GPU-hours", *(["cost"] if asked.is_priced else []),
             f"heard in time, %: {tiers}", "let in, %", "promises"]  # fmt: skip
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(_row(name, option, plan, asked) for name, option in _ways(plan, asked))
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _row(name: str, option: Option, plan: Plan, asked: Asked) -> str:
    tiers = option.report.tiers.values()
    cells = [
        name, _replicas(option), str(option.gpus), f"{option.report.held_gpu_hours:,.1f}",
        *([f"{option.cost:,.2f}"] if asked.is_priced else []),
        " / ".join(_percent(tier.first_audio) for tier in tiers),
        " / ".join(_percent(tier.admitted) for tier in tiers), "kept" if option.meets else "not kept",
    ]  # fmt: skip
    is_best = option is next(each for each in plan.options if each.name == plan.best)
    inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f"<tr{' class=best' if is_best else ''}>{inner}</tr>"


def _replicas(option: Option) -> str:
    return ", ".join(
        f"{model} {least}" if least == most else f"{model} {least} to {most}"
        for model, (least, most) in option.replicas.items()
    )


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.4g}"
