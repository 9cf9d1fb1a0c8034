"""Saving and resuming a training run: one file, replaced whole, so that a stop at any moment loses little."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state beside the target, then rename it over the target."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """The saved state, or None for a fresh run."""
    return torch.load(path, weights_only=True) if path.exists() else None


def load_required(path: Path) -> dict[str, Any]:
    """The state an earlier command has left.

    Raises:
        SystemExit: it is not there, with what to do.
    """
    state = load(path)
    if state is None:
        raise SystemExit(f"{path} is missing: run the training that writes it first (`make` lists the steps)")
    return state


def cosine(progress: float, warmup: float = 0.02, floor: float = 0.02) -> float:
    """Learning-rate factor at a share of the run: linear warm-up, cosine to ``floor``."""
    if progress < warmup:
        return progress / warmup
    rest = min(1.0, (progress - warmup) / (1 - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * rest))
