"""The command lines of the training steps: paths that are required, numbers that have defaults."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch


def parse(doc: str, paths: Sequence[str], *, flags: Sequence[str] = (), **numbers: float) -> argparse.Namespace:
    """Read the command line, and give torch its ``threads`` if they are among the numbers.

    Args:
        doc: the module's docstring; its first line is the help.
        paths: required options.
        flags: options that are off unless given.
        numbers: options with their defaults, whose type they keep.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name in paths:
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in flags:
        parser.add_argument(f"--{name}", action="store_true")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="default: %(default)s")
    args = parser.parse_args()
    if "threads" in numbers:
        torch.set_num_threads(args.threads)
    return args
