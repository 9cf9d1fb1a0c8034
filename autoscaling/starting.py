"""Replicas that start: when they are expected to serve, as the autoscaler says it and as the door counts on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

ANY_MOMENT_S = 1.0
"""Until a replica serves whose start takes longer than expected: it is not there yet."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Replicas that are expected to serve at the same time.

    Attributes:
        in_s: seconds until then.
    """

    in_s: float
    replicas: int = 1


def expected(due: Iterable[tuple[float, int]], now: float) -> tuple[Expected, ...]:
    """What to count on, the first ones first.

    A start that is late by some seconds is expected to take as many more: what waits for a machine that is not there
    is soon counted on by nobody.

    Args:
        due: (when they should serve, how many), on the clock of ``now``; seconds.
    """
    found = sorted((max(ANY_MOMENT_S, abs(at - now)), replicas) for at, replicas in due)
    return tuple(Expected(in_s, replicas) for in_s, replicas in found)


def once_awake(starting: Sequence[Expected]) -> Sequence[Expected]:
    """Of a model that sleeps, as seen from when its first replica serves: which is there then.

    Args:
        starting: the first ones first.
    """
    if not starting:
        return ()
    first = starting[0]
    left = [replace(first, replicas=first.replicas - 1), *starting[1:]]
    return tuple(Expected(each.in_s - first.in_s, each.replicas) for each in left if each.replicas > 0)
