"""What both sides are asked to make: prompts and lengths. Plain Python."""

from __future__ import annotations

from dataclasses import dataclass

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
