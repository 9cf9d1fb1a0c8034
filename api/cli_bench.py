"""``tutti bench``: hands its arguments to the benchmarks, which load torch and are found in a checkout only."""

from __future__ import annotations

import importlib

import typer

bench = typer.Typer(help="Measure the engine on this machine.", no_args_is_help=True)


@bench.callback()
def root() -> None:
    """Measure the engine on this machine."""


@bench.command(
    add_help_option=False,  # the benchmark has its own
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def engine(context: typer.Context) -> None:
    """Steps per second, real-time factor and time to first audio, against transformers on the same weights."""
    benchmark = importlib.import_module("benchmarks.engine_bench")
    raise typer.Exit(int(benchmark.main(context.args) or 0))
