"""``tutti bench``: hands its arguments to the benchmarks, which load torch and are found in a checkout only."""

from __future__ import annotations

import importlib

import typer

bench = typer.Typer(help="Measure the engine, or a running platform.", no_args_is_help=True)


@bench.callback()
def root() -> None:
    """Measure the engine, or a running platform."""


# The benchmarks read their own arguments, and have their own help.
_HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


@bench.command(add_help_option=False, context_settings=_HANDED_ON)
def engine(context: typer.Context) -> None:
    """Steps per second, real-time factor and time to first audio, against transformers on the same weights."""
    _run("benchmarks.engine_bench", context)


@bench.command(add_help_option=False, context_settings=_HANDED_ON)
def peers(context: typer.Context) -> None:
    """The whole table: every other way to run MusicGen, one stream, several, and listeners as they come."""
    _run("benchmarks.peers_bench", context)


@bench.command(add_help_option=False, context_settings=_HANDED_ON)
def serve(context: typer.Context) -> None:
    """Load on a running platform, or on one started for it: first audio, stalls, goodput, service levels, its limit."""
    _run("benchmarks.serve_bench", context)


@bench.command(add_help_option=False, context_settings=_HANDED_ON)
def compare(context: typer.Context) -> None:
    """Two results of `tutti bench serve --out`: is the second one worse? For CI."""
    _run("benchmarks.serve_load.compare", context)


def _run(module: str, context: typer.Context) -> None:
    benchmark = importlib.import_module(module)
    raise typer.Exit(int(benchmark.main(context.args) or 0))
