"""A generator that costs next to nothing: a fixed sound, handed out at a multiple of real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import numpy as np

from models.catalog import ModelSpec
from models.types import AudioChunk, GenerationRequest

MODEL = "paced"
SAMPLE_RATE = 32_000
FRAME_RATE = 50
CHUNK_S = 0.2

SPEC = ModelSpec(
    id=MODEL,
    path=Path("/checkpoints") / MODEL,
    licence="MIT",
    description="a sine at a fixed pace",
    max_duration_s=600.0,
    sample_rate=SAMPLE_RATE,
    channels=1,
    frame_rate=FRAME_RATE,
    num_codebooks=4,
)


class PacedGenerator:
    """Makes audio exactly ``speed`` times as fast as it plays, however many ask at once.

    Args:
        speed: seconds of audio per second, of each track.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed

    async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        loop = asyncio.get_running_loop()
        total = int(request.duration_s * FRAME_RATE) * (SAMPLE_RATE // FRAME_RATE)
        size, began = int(CHUNK_S * SAMPLE_RATE), loop.time()
        for index, first in enumerate(range(0, total, size)):
            last = min(first + size, total)
            # By the clock, not by the previous chunk: lateness does not add up.
            await asyncio.sleep(began + last / SAMPLE_RATE / self._speed - loop.time())
            yield AudioChunk(
                index=index,
                first_sample=first,
                channels=1,
                sample_rate=SAMPLE_RATE,
                pcm=_sound()[: 4 * (last - first)],
                total_samples=total,
                is_last=last == total,
            )

    async def ready(self) -> bool | str:
        return True

    async def replicas(self) -> int:
        return 1


@cache
def _sound() -> bytes:
    """One chunk of 440 Hz: 88 whole periods, so that chunks fit together."""
    time_s = np.arange(int(CHUNK_S * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype("<f4").tobytes()
