"""The tracks of one order, drained side by side into their files, and what is told of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

from api.cli_files import FORMATS, TrackFiles, check_target
from api.cli_order import Maker, Order
from api.cli_output import CliError, stderr
from api.cli_progress import StreamProgress
from api.tasks import stop
from models.types import AudioChunk


@dataclass(frozen=True, slots=True)
class Target:
    """Where one track goes.

    Attributes:
        tokens: for its codes, or None.
    """

    audio: Path
    tokens: Path | None

    @classmethod
    def of(cls, output: Path, tokens: Path | None, num_tracks: int) -> list[Target]:
        """One for each track: of several, the names end in their positions, as ``out-0.wav``.

        Raises:
            CliError: a usage error naming the option whose file could not be written.
        """
        targets = [
            cls(_numbered(output, position, num_tracks), tokens and _numbered(tokens, position, num_tracks))
            for position in range(num_tracks)
        ]
        for target in targets:
            check_target(target.audio, tuple(FORMATS), "--output")
            if target.tokens is not None:
                check_target(target.tokens, (".npy",), "--tokens-out")
        return targets


@dataclass(frozen=True, slots=True)
class MadeTrack:
    """One track as it is told of; the fields are those of ``--json``."""

    path: str
    seed: int
    tokens_path: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What a run reports; the fields are those of ``--json``.

    Attributes:
        path, seed, tokens_path: of the first track.
        seconds: length of each track.
        model: id or checkpoint.
        generation_s: from the request to the last sample, without loading the model.
        real_time_factor: seconds of music, of all tracks, per second of waiting.
        time_to_first_audio_s: of the track that was first.
        load_s: loading the model; 0 with ``--url``.
        melody_separation: what was taken out of the melody before, "none" or "htdemucs"; None: there is none.
    """

    path: str
    seconds: float
    sample_rate: int
    channels: int
    prompt: str
    seed: int
    model: str | None
    generation_s: float
    real_time_factor: float
    time_to_first_audio_s: float
    load_s: float
    tracks: tuple[MadeTrack, ...]
    tokens_path: str | None = None
    melody_separation: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """Whole tracks: the last chunk of one, and when things happened, in seconds after the request."""

    last: AudioChunk
    first_audio_s: float
    end_s: float

    def report(self, order: Order, targets: Sequence[Target], model: str | None, load_s: float) -> Made:
        seconds = self.last.total_samples / self.last.sample_rate
        tracks = tuple(
            MadeTrack(str(target.audio), seed, None if target.tokens is None else str(target.tokens))
            for target, seed in zip(targets, order.seeds, strict=True)
        )
        return Made(
            path=tracks[0].path,
            seconds=round(seconds, 3),
            sample_rate=self.last.sample_rate,
            channels=self.last.channels,
            prompt=order.request.prompt,
            seed=order.request.seed,
            model=model,
            generation_s=round(self.end_s, 3),
            real_time_factor=round(seconds * len(tracks) / self.end_s, 3),
            time_to_first_audio_s=round(self.first_audio_s, 3),
            load_s=round(load_s, 3),
            tracks=tracks,
            tokens_path=tracks[0].tokens_path,
        )


async def write(maker: Maker, order: Order, targets: Sequence[Target], num_codebooks: int = 0) -> Written:
    """Have the order made and written; the files get their names only after the last chunk of all tracks.

    Args:
        num_codebooks: of the codes; needed only for targets with tokens.

    Raises:
        TuttiError: why there is no music; there is no file either.
    """
    started = time.perf_counter()
    heard: list[float] = []
    with ExitStack() as open_files, StreamProgress(stderr, order.request.duration_s * order.num_tracks) as progress:
        files = [
            open_files.enter_context(TrackFiles(target.audio, target.tokens, num_codebooks=num_codebooks))
            for target in targets
        ]

        async def drain(chunks: AsyncGenerator[AudioChunk], into: TrackFiles) -> AudioChunk:
            last: AudioChunk | None = None
            async with aclosing(chunks):
                async for chunk in chunks:
                    if not heard:
                        heard.append(time.perf_counter() - started)
                    into.write(chunk)
                    progress.advance(chunk.duration_s)
                    last = chunk
            if last is None or not last.is_last:
                raise CliError("the music ended before its last piece", "truncated")
            return last

        async with maker.make(order) as tracks:
            lasts = await _all([asyncio.create_task(drain(*each)) for each in zip(tracks, files, strict=True)])
        for file in files:
            file.commit()
    return Written(lasts[0], heard[0], time.perf_counter() - started)


async def _all(tasks: Sequence[asyncio.Task[AudioChunk]]) -> list[AudioChunk]:
    """What they return; where one fails the others are stopped."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failed = next((task for task in tasks if task.done() and task.exception() is not None), None)
    finally:
        await stop(*tasks)
    return [failed.result()] if failed is not None else [task.result() for task in tasks]


def _numbered(path: Path, position: int, num_tracks: int) -> Path:
    return path if num_tracks == 1 else path.with_stem(f"{path.stem}-{position}")
