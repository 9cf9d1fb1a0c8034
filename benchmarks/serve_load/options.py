"""Arguments of ``tutti bench serve``, checked one by one, and the workload that they describe."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

from benchmarks.serve_load.plan import FAULTS, MODES, PROFILES, TRACE, Fault, Mode, Workload

EPILOG = """\
examples:
  tutti bench serve --start --profile poisson --rate 4 --duration 60 --html load.html
  tutti bench serve --url https://tutti.example --api-key pro=$PRO --api-key free=$FREE --tiers pro=1,free=3 --rate 2
  tutti bench serve --start --profile code --modes stream=0.8,async=0.2 --faults slow=0.05,disconnect=0.05
  tutti bench serve --start --trace azure2023_code.csv --rate 3 --duration 120
  tutti bench serve --start --find-max --target 0.95 --duration 30

exit codes: 0 no objective is missed · 1 one is · 2 what was asked for cannot be · 3 INVALID: the generator was late
"""
_T = TypeVar("_T")
Arguments = argparse.Namespace


def parser() -> argparse.ArgumentParser:
    """Of ``tutti bench serve``."""
    made = argparse.ArgumentParser(
        prog="tutti bench serve",
        description="Open-loop load on a running platform: a schedule that is computed beforehand and waits for "
        "nobody, listeners with a virtual player each, and what the service levels say of it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _where(made.add_argument_group("where"))
    _what(made.add_argument_group("what is sent"))
    _how(made.add_argument_group("how it is measured"))
    _report(made.add_argument_group("what is told"))
    return made


def _where(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--url", default=None, help="of the server (http://127.0.0.1:8000)")
    group.add_argument("--start", action="store_true", help="start a platform on a free port, and stop it at the end")
    group.add_argument("--config", type=Path, default=None, help="its Serve config (serve_config.yaml)")
    group.add_argument(
        "--api-key",
        metavar="TIER=KEY",
        action="append",
        type=_api_key,
        default=[],
        help="an account of that tier; more than once for more accounts (development on loopback needs none)",
    )
    group.add_argument("--accounts", type=_count, default=4, help="with --start: accounts of each tier (4)")


def _what(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--profile",
        choices=PROFILES,
        default=None,
        help="steady (constant), poisson, conversation (gamma, CV 1.1), code (bursts, CV 13.2), diurnal (a day with a "
        "flash crowd), trace; (poisson, or trace if there is a file)",
    )
    group.add_argument("--rate", type=_positive, default=None, help="requests a second on average (2; a trace's own)")
    group.add_argument("--duration", type=_positive, default=60.0, help="seconds for which requests are sent (60)")
    group.add_argument("--seed", type=_seed, default=0, help="the same seed and arguments: the same schedule (0)")
    group.add_argument("--cv", type=_positive, default=None, help="of the gaps, for conversation and code")
    group.add_argument("--trace", metavar="FILE", type=Path, default=None, help="CSV with arrival_s or TIMESTAMP")
    group.add_argument(
        "--trace-offset", metavar="S", type=_not_negative, default=0.0, help="where in its own time it is begun (0)"
    )
    mix = "NAME=WEIGHT,…"
    group.add_argument(
        "--tiers", metavar=mix, type=_mix(str), default=None, help="(all that there are keys for, evenly)"
    )
    group.add_argument("--models", metavar=mix, type=_mix(str), default={}, help="(the server's default model)")
    group.add_argument(
        "--modes",
        metavar=mix,
        type=_mix(_one_of(MODES)),
        default={"stream": 1.0},
        help="of stream, async, wait (stream)",
    )
    group.add_argument(
        "--lengths",
        metavar="SECONDS=WEIGHT,…",
        type=_mix(_positive),
        default={2.0: 1.0, 4.0: 2.0, 8.0: 1.0},
        help="of the tracks (2=1,4=2,8=1)",
    )
    group.add_argument(
        "--faults",
        metavar="NAME=SHARE,…",
        type=_mix(_one_of(FAULTS)),
        default={},
        help="clients that misbehave: slow (reads at half speed), disconnect, storm (comes back at once when refused), "
        "duplicate (sends the same Idempotency-Key twice)",
    )


def _how(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--warm-up", metavar="S", type=_not_negative, default=None, help="is cut off (10 %%, at most 10)"
    )
    group.add_argument("--timeout", metavar="S", type=_positive, default=120.0, help="a client waits so long (120)")
    group.add_argument("--processes", type=_count, default=None, help="that send (one for every 100 requests a second)")
    group.add_argument(
        "--target",
        type=_share,
        default=None,
        help="share of good requests, instead of the objectives' own: a short run cannot show 99.9 %%",
    )
    group.add_argument("--find-max", action="store_true", help="look for the highest load that meets the objectives")
    group.add_argument("--max-trials", type=_count, default=12, help="of that search (12)")
    group.add_argument("--precision", type=_share, default=0.1, help="of the load that is found (0.1)")


def _report(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", metavar="FILE", type=Path, help="the report as JSON, every request in it (for compare)")
    group.add_argument("--html", metavar="FILE", type=Path, help="the report as one page with charts")
    group.add_argument("--quiet", action="store_true", help="no progress, no tables: only the JSON line")


def workload_of(arguments: Arguments, tiers: Sequence[str]) -> Workload:
    """
    Args:
        tiers: those that there are accounts of.
    """
    profile = arguments.profile or (TRACE if arguments.trace is not None else "poisson")
    return Workload(
        profile=profile,
        rate=arguments.rate if arguments.rate is not None or profile == TRACE else 2.0,
        duration_s=arguments.duration,
        seed=arguments.seed,
        cv=arguments.cv,
        trace=arguments.trace,
        trace_offset_s=arguments.trace_offset,
        tiers=arguments.tiers or dict.fromkeys(tiers, 1.0),
        models=arguments.models,
        modes=cast(dict[Mode, float], arguments.modes),
        lengths_s=arguments.lengths,
        faults=cast(dict[Fault, float], arguments.faults),
    )


def processes_for(arguments: Arguments, rate: float) -> int:
    """As many as were asked for, or one for every 100 requests a second, up to half of the cores."""
    if arguments.processes is not None:
        return int(arguments.processes)
    return max(1, min(math.ceil(rate / 100), (os.cpu_count() or 2) // 2))


def warm_up_of(arguments: Arguments) -> float:
    given = arguments.warm_up
    return float(given) if given is not None else min(10.0, 0.1 * float(arguments.duration))


# ------------------------------------------------------------------------------------------------------------- types
def _api_key(text: str) -> tuple[str, str]:
    tier, equals, key = text.partition("=")
    if not (tier and equals and key) or not key.isascii() or not key.isprintable() or " " in key:
        raise argparse.ArgumentTypeError("must be TIER=KEY, such as pro=sk_live_…")  # the key is not repeated
    return tier, key


def _mix(name_of: Callable[[str], _T]) -> Callable[[str], dict[_T, float]]:
    def parse(text: str) -> dict[_T, float]:
        found: dict[_T, float] = {}
        for part in text.split(","):
            name, equals, weight = part.strip().partition("=")
            found[name_of(name)] = _positive(weight) if equals else 1.0
        return found

    return parse


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text

    return check


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be finite, got {text}")
    return value


def _positive(text: str) -> float:
    if (value := _number(text)) <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def _not_negative(text: str) -> float:
    if (value := _number(text)) < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return value


def _share(text: str) -> float:
    if not 0 < (value := _number(text)) < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {text}")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 1000, got {text}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text}")
    return int(text)
