"""One attempt at one generation: its tracks made side by side, told to listeners while they are made, then stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

import numpy as np

from api.backend import Backend
from api.clock import Clock
from api.generations.sounds import SoundReader, Sounds, packed
from api.generations.states import Lease
from api.generations.steps import WINDOW_S
from api.generations.throughput import Throughput
from api.generations.view import TrackView
from api.storage.audio import AudioLibrary
from api.streams.writer import FeedWriter, TrackWriter
from api.tasks import stop
from api.telemetry.validity import Validity
from api.tracing import TRACEPARENT, current_traceparent, span
from models.errors import GenerationFailedError, ReplicaLostError, TuttiError
from models.types import DEFAULT_EXTEND_STRIDE_S, AudioChunk, CodePrompt, GenerationRequest


class Execution:
    """Cancel ``make`` to stop it: the generators are closed before it returns.

    Attributes:
        first_audio_at: when the first sample of any track was there.
        stored: track id → columns of ``tracks`` of what is in the object store already.
        elapsed_s: seconds that making all tracks took.
        made_s: seconds of audio made so far, over all tracks.
        valid: nothing is wrong with it: see ``api.telemetry.validity``.
    """

    def __init__(
        self,
        lease: Lease,
        backend: Backend,
        feed: FeedWriter,
        audio: AudioLibrary,
        throughput: Throughput,
        clock: Clock,
        sounds: SoundReader | None = None,
    ) -> None:
        self.lease = lease
        self._backend = backend
        self._feed = feed
        self._audio = audio
        self._throughput = throughput
        self._clock = clock
        self._reader = sounds or SoundReader(audio)
        self._sounds = Sounds()
        self._unheard = lease.view.num_tracks  # that have not been handed over
        self._resumed_s = 0.0
        self._samples_made = 0
        self._samples_due = 0
        self.first_audio_at: datetime | None = None
        self.stored: dict[str, Mapping[str, Any]] = {}
        self.elapsed_s = 0.0
        self.made_s = 0.0
        self.valid = True

    @property
    def unmade(self) -> float:
        """Fraction of the audio that was not made, by what is known of its length."""
        return 1.0 - self._samples_made / self._samples_due if self._samples_due else 1.0

    @property
    def real_time_factor(self) -> float:
        """Seconds of music per second of work; without what an attempt before had made."""
        view = self.lease.view
        made_s = view.duration_s * view.num_tracks - self._resumed_s
        return round(made_s / max(self.elapsed_s, 1e-6), 3)

    async def make(self) -> None:
        """Make and store all tracks.

        Raises:
            TuttiError: of the track that failed first; the others are stopped.
        """
        loop = asyncio.get_running_loop()
        self._sounds = await self._reader.read(self.lease.view.conditioning)
        began = loop.time()
        made = await self._make_all()
        self.elapsed_s = loop.time() - began
        for track, pcm, chunk in made:
            with span("store", track=track.id):
                await self._store(track, pcm, chunk)

    async def _make_all(self) -> list[tuple[TrackView, bytearray, AudioChunk]]:
        tasks = [asyncio.create_task(self._make(track)) for track in self.lease.view.tracks]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            errors = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        finally:
            # A task group would cancel them once, and wait for ever for one that has not heard it.
            await stop(*tasks)
        found = _first([error for error in errors if error is not None])
        if found is not None:
            raise found
        if any(task.cancelled() for task in tasks):
            raise ReplicaLostError("the call to the replica was cancelled on the way")
        return [task.result() for task in tasks]

    async def _make(self, track: TrackView) -> tuple[TrackView, bytearray, AudioChunk]:
        with span("track", "client", track=track.id, position=track.position):
            return await self._make_traced(track)

    async def _make_traced(self, track: TrackView) -> tuple[TrackView, bytearray, AudioChunk]:
        view, loop = self.lease.view, asyncio.get_running_loop()
        is_long = view.duration_s > WINDOW_S
        resumes = await self._feed.finished.of(view.id, track.position) if is_long else None
        began = loop.time()
        pcm, validity = bytearray(), Validity()
        last: AudioChunk | None = None
        # Nothing here holds the request: it may have 15 MB of sound.
        verb = cast("AsyncGenerator[AudioChunk]", self._backend.generate(self._request(track, resumes)))
        async with self._feed.track(view.id, track.position) as writer, aclosing(verb) as chunks:
            async for chunk in chunks:
                self._write(writer, chunk, validity)
                pcm += chunk.pcm
                if chunk.finished is not None:
                    await self._feed.finished.keep(view.id, track.position, chunk.finished)
                if last is None:
                    self._let_go()
                last = chunk
                self._note(chunk)
            if last is not None and resumes is None:  # a resumed one says nothing about how fast others go
                self._throughput.finished(view.model_id, view.cost_steps // view.num_tracks, loop.time() - began)
        assert last is not None, "the writer raises for a track without an end"
        if resumes is not None and last.codes is not None:
            self._resumed_s += view.duration_s * len(resumes.codes) / len(last.codes)
        self.valid &= validity.holds(last.total_samples * last.channels)
        return track, pcm, last

    def _request(self, track: TrackView, resumes: CodePrompt | None) -> GenerationRequest:
        view, sounds = self.lease.view, self._sounds
        return GenerationRequest(
            request_id=f"{track.id}.{self.lease.fence}",
            prompt=view.prompt,
            duration_s=view.duration_s,
            seed=track.seed,
            sampling=view.sampling,
            trace=self._trace(),
            live=view.mode == "stream",
            continues=sounds.continues if resumes is None else None,
            extend_stride_s=DEFAULT_EXTEND_STRIDE_S if view.extend_stride_s is None else view.extend_stride_s,
            melody_separation=view.melody_separation or "none",
            melody=sounds.melody,
            style=sounds.style,
            resumes=resumes,
        )

    def _let_go(self) -> None:
        """A track has begun: when all have, nobody needs the sound here any more."""
        self._unheard -= 1
        if self._unheard == 0:
            self._sounds = Sounds()

    def _write(self, writer: TrackWriter, chunk: AudioChunk, validity: Validity) -> None:
        try:
            pieces = writer.write(chunk)
        except GenerationFailedError:  # no numbers, or more than were announced
            self.valid = False
            raise
        for piece in pieces:
            validity.add(np.frombuffer(piece.pcm, "<i2"))

    def _trace(self) -> dict[str, str]:
        """What the replica writes into its log lines, and where its spans belong."""
        view, traceparent = self.lease.view, current_traceparent()
        ids = {"request_id": view.request_id, "generation_id": view.id, "account_id": view.account_id}
        return ids if traceparent is None else {**ids, TRACEPARENT: traceparent}

    def _note(self, chunk: AudioChunk) -> None:
        if self.first_audio_at is None:
            self.first_audio_at = self._clock()
        self._samples_due = chunk.total_samples * self.lease.view.num_tracks
        self._samples_made += chunk.num_samples
        self.made_s += chunk.duration_s

    async def _store(self, track: TrackView, pcm: bytearray, chunk: AudioChunk) -> None:
        view = self.lease.view
        stored = await self._audio.store(
            view.account_id,
            view.id,
            track.id,
            self.lease.fence,
            bytes(pcm),
            chunk.sample_rate,
            chunk.channels,
            None if chunk.codes is None else packed(chunk.codes),
        )
        self.stored[track.id] = {**asdict(stored), "sample_rate": chunk.sample_rate, "channels": chunk.channels}


def _first(errors: Sequence[BaseException]) -> BaseException | None:
    """The error to report: one of ours before a bug's, as the others are often its consequence."""
    return next((error for error in errors if isinstance(error, TuttiError)), next(iter(errors), None))
