"""A generator that makes a sine instead of music: the same verb, deterministic by seed, steered by events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.catalog import ModelSpec
from models.types import AudioChunk, GenerationRequest

SAMPLE_RATE = 32_000
FRAME_RATE = 50
_GATE_TIMEOUT_S = 30.0


def spec(model_id: str = "tiny", *, channels: int = 1, max_duration_s: float = 30.0) -> ModelSpec:
    return ModelSpec(
        id=model_id,
        path=Path("/checkpoints") / model_id,
        licence="MIT",
        description=f"{model_id}: a sine",
        max_duration_s=max_duration_s,
        sample_rate=SAMPLE_RATE,
        channels=channels,
        frame_rate=FRAME_RATE,
        num_codebooks=4,
    )


def sine(seed: int, total_samples: int, channels: int = 1) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The whole track, ``[samples, channels]``: pitch from the seed, the second channel a fifth above."""
    time_s = np.arange(total_samples) / SAMPLE_RATE
    pitch = 220.0 * 2 ** (seed % 24 / 12)
    track = [0.5 * np.sin(2 * np.pi * pitch * 1.5**channel * time_s) for channel in range(channels)]
    return np.stack(track, axis=1).astype("<f4")


@dataclass
class FakeGenerator:
    """One model. What happens to each of its generations is written down.

    Attributes:
        channels: 1 or 2.
        chunk_s: seconds of audio in each chunk.
        gates: before chunk ``i``, say so in ``reached[i]`` and wait for ``gates[i]``.
        errors: raised instead of chunk ``i``.
        end_early: stop after this many chunks, without the end marker.
        pace: awaited before each chunk.
        ready_answer: what ``ready`` says; an error is raised.
        started, finished: how many generations began and ran to their end.
        closed: how many ended early by being closed or cancelled; ``was_closed`` is set then.
    """

    channels: int = 1
    chunk_s: float = 0.25
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)
    end_early: int | None = None
    pace: Callable[[int], Awaitable[None]] | None = None
    ready_answer: bool | str | Exception = True
    requests: list[GenerationRequest] = field(default_factory=list)
    reached: dict[int, asyncio.Event] = field(default_factory=dict)
    started: int = 0
    finished: int = 0
    closed: int = 0
    was_closed: asyncio.Event = field(default_factory=asyncio.Event)

    def hold(self, index: int) -> asyncio.Event:
        """Make every generation stop before chunk ``index`` until the returned event is set."""
        self.reached[index] = asyncio.Event()
        self.gates[index] = asyncio.Event()
        return self.gates[index]

    async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        self.started += 1
        self.requests.append(request)
        ended = False
        try:
            for chunk in self._chunks(request):
                await self._before(chunk.index)
                if self.end_early == chunk.index:
                    ended = True
                    return
                yield chunk
            ended = True
            self.finished += 1
        except Exception:
            ended = True
            raise
        finally:
            if not ended:
                self.closed += 1
                self.was_closed.set()

    async def ready(self) -> bool | str:
        if isinstance(self.ready_answer, Exception):
            raise self.ready_answer
        return self.ready_answer

    async def replicas(self) -> int:
        return 1 if self.ready_answer is True else 0

    async def _before(self, index: int) -> None:
        if index in self.gates:
            self.reached[index].set()
            async with asyncio.timeout(_GATE_TIMEOUT_S):
                await self.gates[index].wait()
        if self.pace is not None:
            await self.pace(index)
        if index in self.errors:
            raise self.errors[index]

    def _chunks(self, request: GenerationRequest) -> list[AudioChunk]:
        total = int(request.duration_s * FRAME_RATE) * (SAMPLE_RATE // FRAME_RATE)
        track = sine(request.seed, total, self.channels)
        size = int(self.chunk_s * SAMPLE_RATE)
        starts = range(0, total, size)
        return [
            AudioChunk(
                index=index,
                first_sample=first,
                channels=self.channels,
                sample_rate=SAMPLE_RATE,
                pcm=track[first : first + size].tobytes(),
                total_samples=total,
                is_last=first + size >= total,
            )
            for index, first in enumerate(starts)
        ]
