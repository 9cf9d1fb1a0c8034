"""``tutti plan``: how many GPUs for this traffic and these promises, before anyone buys them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from api.cli_output import CliError, print_json, usage_error
from autoscaling.planner import Option, Plan, PlanError, Question, profile_from_results
from autoscaling.planner import plan as make_plan
from autoscaling.simulator.replica import Profile
from autoscaling.simulator.tiers import TierService
from autoscaling.simulator.workload import Diurnal, Mix, poisson, read_trace
from dashboards.objectives import load_objectives

_DAY_S = 86_400.0


def plan(
    traffic: Annotated[
        str,
        typer.Option(help="poisson:RATE or day:RATE (requests per second on average), or a CSV file with arrival_s."),
    ],
    profile: Annotated[
        list[str],
        typer.Option(
            help="MODEL=RESULT.json[,RESULT.json] of `tutti bench engine --json`, or MODEL=ONE,MANY,STREAMS: "
            "audio-seconds per second of one stream, and of so many together. Once per size."
        ),
    ],
    hours: Annotated[float, typer.Option(help="Of traffic to draw.", min=0.05, max=168)] = 1.0,
    share: Annotated[list[str] | None, typer.Option(help="MODEL=WEIGHT of the requests; alike if not given.")] = None,
    gpu: Annotated[list[str] | None, typer.Option(help="MODEL=SHARE of a GPU that a replica takes; 1.")] = None,
    cold_start: Annotated[float, typer.Option(help="Seconds until a new replica serves.", min=0)] = 30.0,
    what_if: Annotated[list[float] | None, typer.Option(help="Other cold starts (s) to answer for.")] = None,
    price: Annotated[float, typer.Option(help="Of one GPU for an hour.", min=0)] = 0.0,
    floor: Annotated[int, typer.Option(help="Replicas of each size that the autoscaler keeps.", min=0)] = 1,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Also write a page with charts.", dir_okay=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """How many replicas and GPUs serve this traffic so that every tier gets what slo.yaml and tiers.yaml promise it.

    The scheduler and the autoscaler that serve are run on a virtual clock. Two ways are simulated: a fixed number of
    replicas, and the policy "demand"; the cheaper one that keeps every promise is the advice.
    """
    if html is not None and not html.resolve().parent.is_dir():
        raise usage_error(f"--html {html}: there is no folder {html.resolve().parent}")
    try:
        profiles = {name: _profile(value, _numbers(gpu), name, cold_start) for name, value in _pairs(profile)}
        arrivals = _arrivals(traffic, hours * 3600, seed)
        weights = _numbers(share) or dict.fromkeys(profiles, 1.0)
        requests = Mix(weights).requests(arrivals, seed)
        tiers, objectives, admission = _promises()
        question = Question(requests, profiles, tiers, objectives, admission, price, floor)
        answer = make_plan(question, what_if or [])
    except (PlanError, ValueError) as error:
        raise usage_error(str(error)) from error
    if html is not None:
        _write(html, answer, traffic, tiers, objectives, cold_start)
    if as_json:
        print_json(asdict(answer))
    else:
        _show(Console(), answer, priced=price > 0)


def _write(
    path: Path,
    answer: Plan,
    traffic: str,
    tiers: Mapping[str, TierService],
    objectives: Mapping[str, float],
    cold_start_s: float,
) -> None:
    """
    Raises:
        CliError: it cannot be written there.
    """
    from api.plan_page import Asked, page  # it brings what draws, which other commands do without

    within_s = {name: tier.first_audio_s for name, tier in tiers.items()}
    is_priced = any(option.cost > 0 for option in answer.options)
    try:
        path.write_text(page(answer, Asked(traffic, objectives, within_s, cold_start_s, is_priced)), encoding="utf-8")
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}", "not_written") from error


def _pairs(given: list[str] | None) -> list[tuple[str, str]]:
    pairs = [each.partition("=") for each in given or []]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise PlanError(f"MODEL=VALUE is wanted, got {name + equals + value!r}")
    return [(name, value) for name, _, value in pairs]


def _numbers(given: list[str] | None) -> dict[str, float]:
    numbers = {}
    for name, value in _pairs(given):
        try:
            numbers[name] = float(value)
        except ValueError:
            raise PlanError(f"{name}={value}: a number is wanted") from None
        if not 0 < numbers[name] < math.inf:
            raise PlanError(f"{name}={value}: a number above 0 is wanted")
    return numbers


def _profile(value: str, shares: Mapping[str, float], name: str, cold_start_s: float) -> Profile:
    parts = value.split(",")
    gpu = shares.get(name, 1.0)
    if all(part.endswith(".json") for part in parts):
        return replace(profile_from_results([Path(part) for part in parts]), gpu=gpu, cold_start_s=cold_start_s)
    try:
        one, many, streams = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        raise PlanError(f"--profile {name}={value}: JSON files or ONE,MANY,STREAMS are wanted") from None
    return Profile.from_measured(streams, one, many, streams, gpu=gpu, cold_start_s=cold_start_s)


def _arrivals(traffic: str, duration_s: float, seed: int) -> list[float]:
    kind, colon, rate = traffic.partition(":")
    if not colon:
        if not Path(traffic).is_file():
            raise PlanError(f"--traffic {traffic}: poisson:RATE, day:RATE or a CSV file is wanted")
        return read_trace(Path(traffic))
    if kind not in {"poisson", "day"}:
        raise PlanError(f"--traffic {traffic}: poisson:RATE or day:RATE is wanted")
    per_s = _numbers([f"rate={rate}"])["rate"]
    if kind == "poisson":
        return poisson(per_s, duration_s, seed)
    return Diurnal(per_s, period_s=min(duration_s, _DAY_S)).arrivals(duration_s, seed)


def _promises() -> tuple[dict[str, TierService], dict[str, float], dict[str, float]]:
    """From the two files that say what a tier is promised and may do: services, heard in time, let in."""
    from api.limits.promises import tier_services  # it brings FastAPI, which other commands do without

    objectives = load_objectives()
    heard = {name: objectives.objective("ttfa", name) for name in objectives.tiers}
    admitted = {name: objectives.objective("admission", name) for name in objectives.tiers}
    return tier_services(objectives), heard, admitted


def _show(console: Console, answer: Plan, *, priced: bool) -> None:
    console.print(f"{answer.requests:,} requests in {answer.hours:.1f} hours, simulated. In percent, of the tiers:")
    console.print(" / ".join(answer.options[0].report.tiers))
    table = Table(
        "way", "replicas", "GPUs", "GPU-hours", *(["cost"] if priced else []), "heard in time", "let in", "kept"
    )
    for option in answer.options:
        _row(table, option.name, option, priced=priced)
    for seconds, option in answer.what_if.items():
        _row(table, f"started in {seconds:g} s", option, priced=priced)
    console.print(table)
    if not any(option.meets for option in answer.options):
        console.print("No way keeps every promise: see which tier falls short.")
    elif answer.best == "fixed":
        console.print("Advice: a fixed number. Traffic this even pays for no starts.")
    else:
        console.print("Advice: the policy demand between these limits.")


def _row(table: Table, name: str, option: Option, *, priced: bool) -> None:
    replicas = ", ".join(
        f"{model} {least}" if least == most else f"{model} {least} to {most}"
        for model, (least, most) in option.replicas.items()
    )
    tiers = option.report.tiers.values()
    heard = " / ".join(_percent(tier.first_audio) for tier in tiers)
    admitted = " / ".join(_percent(tier.admitted) for tier in tiers)
    cost = [f"{option.cost:,.2f}"] if priced else []
    kept = "yes" if option.meets else "no"
    table.add_row(name, replicas, str(option.gpus), f"{option.report.held_gpu_hours:.1f}", *cost, heard, admitted, kept)


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.4g}"
