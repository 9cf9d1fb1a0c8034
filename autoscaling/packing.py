"""Model sizes share GPUs: how many fit, and who gets them when there are too few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_GRAIN = 10_000
"""Shares are compared as whole ten-thousandths, as Ray does, so that 0.3 + 0.3 + 0.4 fill a GPU."""

_Run = tuple[int, int]
"""Neighbouring GPUs that are equally full: how full, and how many."""


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
    without any while another has several. As long as all fit, the cost does not depend on how many replicas there are.

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
    sizes: Counter[int] = Counter()
    for model, number in wanted.items():
        sizes[_size(shares[model])] += number
    del sizes[0]  # they take nothing
    runs = _first_fit(sizes)
    used = sum(count for _, count in runs)
    if used <= gpus:
        return Packed(dict(wanted), used, max((_GRAIN - level for level, _ in runs), default=0) / _GRAIN)
    fitting, levels = _in_turn(wanted, shares, order, gpus)
    return Packed(fitting, len(levels), max((_GRAIN - level for level in levels), default=0) / _GRAIN)


def _size(share: float) -> int:
    return round(share * _GRAIN)


def _first_fit(sizes: Mapping[int, int]) -> list[_Run]:
    """How full each GPU is, when there are as many as it takes; equal replicas and equal GPUs are placed at once."""
    runs: list[_Run] = []
    for size in sorted(sizes, reverse=True):
        placed: list[_Run] = []
        left = sizes[size]
        for level, count in [*runs, (0, left)]:
            filled, left = _fill(level, count, size, left)
            placed += filled
        runs = placed
    return runs


def _fill(level: int, count: int, size: int, left: int) -> tuple[list[_Run], int]:
    """As many as fit onto these GPUs, one after the other, each as full as it gets; and how many are left. Of new GPUs
    only those are told that are used."""
    each = (_GRAIN - level) // size
    full = min(count, left // each) if each else 0
    left -= full * each
    runs = [(level + each * size, full)]
    if each and left and full < count:
        runs.append((level + left * size, 1))
        full, left = full + 1, 0
    runs.append((level, count - full if level else 0))
    return [run for run in runs if run[1]], left


def _in_turn(
    wanted: Mapping[str, int], shares: Mapping[str, float], order: Sequence[str], gpus: int
) -> tuple[dict[str, int], list[int]]:
    """Each takes its turn, and one that does not fit lets the smaller ones behind it try. GPUs only get fuller, so each
    size looks for room from where it found some last."""
    fitting = {model: number if _size(shares[model]) == 0 else 0 for model, number in wanted.items()}
    models = [model for model in order if model in wanted] + [model for model in wanted if model not in order]
    looking = {model: 0 for model in models if _size(shares[model]) > 0}
    levels = [0] * gpus
    while looking:
        for model in list(looking):
            size = _size(shares[model])
            while looking[model] < gpus and levels[looking[model]] + size > _GRAIN:
                looking[model] += 1
            if looking[model] == gpus or fitting[model] == wanted[model]:
                del looking[model]
                continue
            levels[looking[model]] += size
            fitting[model] += 1
    return fitting, [level for level in levels if level]
