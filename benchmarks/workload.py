"""What all sides are asked to make: prompts and lengths, together or one by one as they arrive. Plain Python."""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.arrivals import poisson

GUIDANCE = 3.0
TOP_K = 250

PROMPTS = (
    "calm piano in C major, slow, no drums",
    "lo-fi hip hop with a warm bass and soft drums",
    "fast drum and bass",
    "an acoustic guitar in the evening, gentle and simple, a minor key",
)
# Lengths of concurrent streams, as parts of the longest: listeners do not all want the same.
MIX = (1.0, 0.5, 0.75, 0.25)


@dataclass(frozen=True, slots=True)
class Stream:
    """One track to make: ``frames`` codec frames for a prompt."""

    prompt: str
    frames: int
    seed: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A track that somebody asks for ``at_s`` seconds after the start, whether or not others have been served."""

    at_s: float
    stream: Stream


def streams_for(count: int, frames: int, take: int) -> tuple[Stream, ...]:
    """So many concurrent streams, the longest of ``frames``.

    Args:
        take: makes the prompts new, so that no side finds a text that it has encoded before.
    """
    return tuple(
        Stream(
            prompt=f"{PROMPTS[index % len(PROMPTS)]}, take {take}",
            frames=max(1, int(frames * MIX[index % len(MIX)])),
            seed=1000 * (take + 10) + index,
        )
        for index in range(count)
    )


def mean_frames(frames: int) -> float:
    """Mean length of a mixed stream whose longest are of ``frames``."""
    return sum(max(1, int(frames * part)) for part in MIX) / len(MIX)


def poisson_arrivals(rate: float, seconds: float, frames: int, seed: int = 0) -> tuple[Arrival, ...]:
    """Arrivals of an open loop: exponential gaps, lengths drawn from the mix; the same for the same arguments.

    Args:
        rate: arrivals per second on average.
        seconds: no one comes later. One arrival at least, at the start, so that there is something to measure.
        frames: of the longest stream.
    """
    lengths = random.Random(f"lengths {seed}")
    return tuple(
        Arrival(at_s, _arriving(index, max(1, int(frames * lengths.choice(MIX)))))
        for index, at_s in enumerate([0.0, *poisson(rate, seconds, seed)])
    )


def _arriving(index: int, frames: int) -> Stream:
    return Stream(f"{PROMPTS[index % len(PROMPTS)]}, arrival {index}", frames, seed=90_000 + index)
