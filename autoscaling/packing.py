"""Model sizes share GPUs: how many fit, and who gets them when there are too few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_GRAIN = 10_000
"""Shares are compared as whole ten-thousandths, as Ray does, so that 0.3 + 0.3 + 0.4 fill a GPU."""


@dataclass(frozen=True, slots=True)
class Packed:
    """
    Attributes:
        replicas: model → how many fit.
        gpus: of which at least a part is used.
        free: the largest share that is left on one of them; 0 if all are full.
    """

    replicas: Mapping[str, int]
    gpus: int
    free: float


def pack(shares: Mapping[str, float], wanted: Mapping[str, int], gpus: int, order: Sequence[str] = ()) -> Packed:
    """First fit, the largest shares first: at most 11/9 of the fewest GPUs possible (Dosa, ESCAPE 2007).

    When not all fit, one replica of each size goes first and then the sizes take turns in ``order``, so that no size is
    without any while another has several.

    Args:
        shares: model → the share of a GPU that a replica takes, in (0, 1]; 0 for one that takes none.
        wanted: model → replicas.
        gpus: that there are.
        order: who comes first when there are too few; sizes that it does not name come last.

    Raises:
        ValueError: a share outside [0, 1], a negative number, or a size without a share.
    """
    for model, number in wanted.items():
        if model not in shares or not 0 <= shares[model] <= 1 or number < 0:
            raise ValueError(f"{model}: {number} replicas with a share of {shares.get(model)} of a GPU are impossible")
    turns = _turns(wanted, shares, order)
    levels = _first_fit([_size(shares[model]) for model in turns], gpus)
    fitting = dict(wanted)
    if levels is None:
        fitting, levels = _in_turn(wanted, shares, turns, gpus)
    free = max((_GRAIN - level for level in levels), default=0) / _GRAIN
    return Packed(fitting, len(levels), free)


def _size(share: float) -> int:
    return round(share * _GRAIN)


def _turns(wanted: Mapping[str, int], shares: Mapping[str, float], order: Sequence[str]) -> list[str]:
    """Every replica once, the more important ones first."""
    models = [model for model in order if model in wanted] + [model for model in wanted if model not in order]
    models = [model for model in models if shares[model] > 0]
    most = max((wanted[model] for model in models), default=0)
    return [model for turn in range(most) for model in models if turn < wanted[model]]


def _first_fit(sizes: Sequence[int], gpus: int) -> list[int] | None:
    """How full each GPU is; None: they do not fit."""
    levels: list[int] = []
    for size in sorted(sizes, reverse=True):
        if not _place(size, levels, gpus):
            return None
    return levels


def _place(size: int, levels: list[int], gpus: int) -> bool:
    """Onto the first GPU with room, or a new one."""
    for index, level in enumerate(levels):
        if level + size <= _GRAIN:
            levels[index] += size
            return True
    if len(levels) < gpus:
        levels.append(size)
        return True
    return False


def _in_turn(
    wanted: Mapping[str, int], shares: Mapping[str, float], turns: Sequence[str], gpus: int
) -> tuple[dict[str, int], list[int]]:
    """Each takes its turn, and one that does not fit lets the smaller ones behind it try."""
    fitting = {model: number if shares[model] == 0 else 0 for model, number in wanted.items()}
    levels: list[int] = []
    for model in turns:
        if _place(_size(shares[model]), levels, gpus):
            fitting[model] += 1
    return fitting, levels
