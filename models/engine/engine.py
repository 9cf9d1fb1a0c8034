"""The engine: requests in, one batched step at a time, finished audio out. Single-threaded; no asyncio, no Ray.

The life of a request: it is checked and takes its place in the line; the scheduler lets it in when its rows and all
its KV positions are free; its text is encoded once; music that is known (what it goes on from, what two windows share)
is worked through beside the others; every step samples one line of codes for all requests together; frames whose codes
are complete go through the streaming codec; chunks leave as soon as they are final; with the last chunk, an error or an
abort, everything it held is free for the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import torch

from models.engine.admission import sequence_of
from models.engine.audio_stream import AudioStage
from models.engine.listener import Listener
from models.engine.loader import LoadedModel
from models.engine.melodies import MelodyReader
from models.engine.pacing import Pacer
from models.engine.prefixes import prefix_positions
from models.engine.runners import runner_for
from models.engine.scheduler import Scheduler
from models.engine.sequence import Sequence
from models.engine.stage_times import StageTimes, Stopwatch
from models.engine.stats import EngineStats, StatsCollector
from models.engine.step import EngineOutput, StepPlan, StepResult
from models.engine.styles import StyleReader
from models.engine_config import EngineConfig
from models.errors import EngineDeadError, EngineOverloadedError, InvalidRequestError, TuttiError
from models.musicgen.rows import RowHandle
from models.types import AudioChunk, AudioPrompt, GenerationRequest

# A step that raises fails the requests in it. So many in a row, with no good one between, are no accident.
MAX_BROKEN_STEPS_IN_A_ROW = 8


class Engine:
    """One model, stepping for all requests together.

    Every method but ``check_request`` belongs to one thread.
    """

    def __init__(
        self, model: LoadedModel, config: EngineConfig, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """
        Args:
            clock: seconds, which never go back: when chunks are handed over, and how long steps take.
        """
        self.config = config
        self._clock = clock
        self.model = model.config
        self._stats = StatsCollector()
        self._cache = model.decoder.new_cache(config.kv_positions_for(model.config), config.max_rows)
        self._pacer = Pacer[RowHandle](model.config.frame_rate)
        self._scheduler = Scheduler[RowHandle](
            self._cache,
            max_rows=config.max_rows,
            max_queue=config.max_queue,
            pacer=self._pacer if config.pause_rows else None,
            fill_rows=config.prefill_rows,
        )
        self._prompts, self._melodies = model.prompts, MelodyReader(model.config)
        self._styles = StyleReader(model.config, model.style)
        self._text, self._sound = model.text, model.sound
        self._runner = runner_for(model, config, self._cache, self._stats)
        self._lookahead = model.codec.lookahead_frames
        self._audio = AudioStage(model.codec, model.config, config, self._runner, self._runner.lag)
        self._stopwatch = Stopwatch(self._stats)
        self._broken_in_a_row = 0
        self.prepare_thread()

    def prepare_thread(self) -> None:
        """Tell torch how many cores to use, in the thread that steps: some of its limits are per thread."""
        if self.config.num_threads is not None:
            torch.set_num_threads(self.config.num_threads)

    # ------------------------------------------------------------------------------------------------ the verbs

    def check_request(self, request: GenerationRequest) -> None:
        """Refuse what this model can not make. Touches no state, so any thread may ask.

        Raises:
            InvalidRequestError: naming the parameter.
        """
        if isinstance(request.continues, AudioPrompt):
            self._prompts.check(request.continues)
        self._sequence(request)

    def encoded(self, request: GenerationRequest) -> GenerationRequest:
        """The request with codes, a tune and a style in place of sound, as `add` takes it; itself if it has none. Any
        thread may ask, and another than the one that steps should: it may take a second.

        Raises:
            InvalidRequestError: this model can not go on from that sound, follow it or sound like it.
            CheckpointError: the encoder's weights are broken.
        """
        request = self._prompts.encoded(request)
        windows = self._sequence(request).windows
        return self._styles.heard(self._melodies.heard(request, windows), windows)

    def add(self, request: GenerationRequest, times: StageTimes | None = None) -> None:
        """Put a request in the line; one with sound is `encoded` before.

        Args:
            times: written down there, if somebody wants to know.

        Raises:
            InvalidRequestError: this model can not make it, or its id is taken.
            EngineOverloadedError: the line is full; it says when to come back.
        """
        assert not request.has_sound, "sound is encoded first: this is a bug"
        sequence = self._sequence(request)
        if request.request_id in self._scheduler:
            raise InvalidRequestError(f"request id {request.request_id!r} is already in use", param="request_id")
        if not self._scheduler.has_room(sequence):
            self._stats.refused += 1
            raise EngineOverloadedError(
                f"all rows are taken and {self._scheduler.num_waiting} requests wait", self._retry_after_s()
            )
        if request.live:
            now_s = self._clock()
            sequence.listener = Listener.arriving(self.config, self.model.frame_rate, self._lookahead, now_s)
        if times is not None:
            self._stopwatch.add(request.request_id, times, self._clock())
        self._scheduler.add(sequence)

    def abort(self, request_id: str) -> bool:
        """Stop a request and free all it holds, now. False if it is not here (any more)."""
        if self._scheduler.remove(request_id) is None:
            return False
        self._forget(request_id)
        self._stats.aborted += 1
        return True

    @torch.inference_mode()
    def step(self) -> list[EngineOutput]:
        """Advance by one step every request that is not paused; what happened to whom.

        Raises:
            EngineDeadError: steps keep failing.
            AssertionError: an invariant is broken, which is a bug: the engine can not go on.
        """
        with self._stats.step():
            began_at = self._clock()
            plan = self._scheduler.schedule(began_at)
            result = self._runner.run(plan)
            decoded_at = self._clock()
            self._decode_audio(plan, result)
            if self._stopwatch:
                self._stopwatch.note(plan, result, began_at, decoded_at, self._clock())
            return self._update(plan, result)

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    def generate(self, request: GenerationRequest) -> Generator[AudioChunk]:
        """Make one track and step the engine meanwhile: for the command line, which has no one else to serve.

        Closing the iterator aborts.

        Raises:
            TuttiError: as ``add``, or whatever ended the request.
        """
        self.check_request(request)
        self.add(self.encoded(request))
        try:
            while request.request_id in self._scheduler:
                for output in self.step():
                    if output.request_id != request.request_id:
                        continue
                    if isinstance(output.news, TuttiError):
                        raise output.news
                    yield output.news
        finally:
            self.abort(request.request_id)

    def stats(self) -> EngineStats:
        """A snapshot of now."""
        return self._stats.snapshot(self._scheduler, self._pacer, self.config.max_rows, self._cache.free_positions)

    def check_integrity(self) -> None:
        """Raise AssertionError if a row, a slot, a KV position or a track is lost or held twice."""
        self._scheduler.check_integrity()
        self._cache.check_integrity()
        assert len(self._audio) <= self._scheduler.num_running, "a track outlived its request"

    # --------------------------------------------------------------------------------------------------- inside

    def _sequence(self, request: GenerationRequest) -> Sequence[RowHandle]:
        prefix = prefix_positions(request, self._text, self._sound)
        sequence: Sequence[RowHandle] = sequence_of(request, self.model, self.config, self._runner.lag, prefix)
        if not self._scheduler.can_ever_run(sequence):
            raise InvalidRequestError(
                f"this engine is too small for the request: it takes {sequence.num_rows} rows of {sequence.num_steps} "
                "positions; ask for a shorter duration or guidance 1, or raise max_rows or kv_positions",
                param="duration",
            )
        return sequence

    def _decode_audio(self, plan: StepPlan[RowHandle], result: StepResult) -> None:
        with self._stats.stage("codec"), self._runner.audio():
            self._audio.decode(plan, result)

    def _update(self, plan: StepPlan[RowHandle], result: StepResult) -> list[EngineOutput]:
        """Move every request on, let go of those that ended, and say what happened."""
        self._watch(result)
        now_s = self._clock()
        self._scheduler.observe(plan, now_s)
        outputs = []
        filled = {sequence.request_id: share for sequence, share in plan.filling}
        for sequence in plan.running:
            sequence.advance(filled.get(sequence.request_id))
            news = result.failures.get(sequence.request_id) or result.chunks.get(sequence.request_id)
            if news is not None:
                outputs.append(EngineOutput(sequence.request_id, news))
            if isinstance(news, AudioChunk):
                self._hand_over(sequence, news, now_s)
        for output in outputs:
            self._count(output)
            if output.is_end:
                self._scheduler.remove(output.request_id)
                self._forget(output.request_id)
        return outputs

    def _forget(self, request_id: str) -> None:
        """It holds no place any more: nobody keeps anything for it."""
        self._audio.forget(request_id)
        self._runner.forget(request_id)
        self._stopwatch.forget(request_id)

    def _hand_over(self, sequence: Sequence[RowHandle], chunk: AudioChunk, now_s: float) -> None:
        if sequence.listener is not None:
            frames = chunk.num_samples // self.model.codec.hop_length
            late_s = sequence.listener.hand_over(frames, now_s, is_last=chunk.is_last)
            self._stats.underruns += late_s > 0
            self._stats.stall_seconds += late_s

    def _count(self, output: EngineOutput) -> None:
        if isinstance(output.news, TuttiError):
            self._stats.failed += 1
            return
        self._stats.audio_seconds += output.news.duration_s
        self._stats.finished += output.news.is_last

    def _watch(self, result: StepResult) -> None:
        """After a broken step, find out whether the engine can go on."""
        if not result.is_broken:
            self._broken_in_a_row = 0
            return
        self._stats.broken_steps += 1
        self._broken_in_a_row += 1
        self.check_integrity()
        if self._broken_in_a_row >= MAX_BROKEN_STEPS_IN_A_ROW:
            raise EngineDeadError(f"{self._broken_in_a_row} steps in a row failed")

    def _retry_after_s(self) -> float:
        """Until the line is shorter: steps are known, their time is measured (before the first: as in real time)."""
        step_s = self._stats.mean_step_s or 1 / self.model.frame_rate
        return max(1, self._scheduler.steps_until_room()) * step_s
