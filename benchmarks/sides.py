"""What one side of the comparison did, and our own side. The others are in ``benchmarks.peers``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.formats import engine_config
from benchmarks.serving import Clock, Log, Served
from benchmarks.weights import Weights
from benchmarks.workload import GUIDANCE, TOP_K, Arrival, Stream
from models.config import ModelConfig
from models.engine.engine import Engine
from models.engine.stats import STAGES
from models.errors import TuttiError
from models.types import AudioChunk, GenerationRequest, SamplingParams

Codes = NDArray[np.int64]

MAX_QUEUE = 100_000  # an open loop waits for nobody: nothing is refused, everything is counted


@dataclass(frozen=True, slots=True)
class Made:
    """What one side did once.

    Attributes:
        wall_s: from the first request to the last sample in the listener's hands (in memory of the CPU).
        cpu_s: processor time of all threads in between: on shared cores others do not add to it.
        first_audio_s: for each stream, from its request to its first samples.
        frames: made for each stream, padding included.
        steps: of the decoder.
        rows_per_step: mean.
        stages: seconds by stage, where the side tells.
        codes: ``[K, frames]`` for each stream, where the side tells.
    """

    wall_s: float
    cpu_s: float
    first_audio_s: tuple[float, ...]
    frames: tuple[int, ...]
    steps: int
    rows_per_step: float
    stages: Mapping[str, float] = field(default_factory=dict)
    codes: tuple[Codes, ...] = ()


class Side(Protocol):
    """Makes all streams together, as well as it can."""

    def make(self, streams: Sequence[Stream], *, greedy: bool = False) -> Made: ...


class Tutti:
    """Our engine, large enough for these streams and no larger.

    Args:
        weights_format: one of ``FORMATS``.
        streams: the largest set that will be made together.
    """

    def __init__(self, weights: Weights, weights_format: str, device: str, streams: Sequence[Stream]) -> None:
        self._config = weights.config
        delay = max(self._config.decoder.delays)
        config = engine_config(
            weights_format,
            device=device,
            max_rows=2 * len(streams),
            kv_positions=sum(2 * (stream.frames + delay) for stream in streams),
            max_queue=MAX_QUEUE,
            return_codes=True,
        )
        self._engine = Engine(weights.ours(weights_format, device), config)

    def make(self, streams: Sequence[Stream], *, greedy: bool = False) -> Made:
        """All arrive at once; each leaves when it is done."""
        engine, config = self._engine, self._config
        requests = [_request(str(index), stream, config, greedy=greedy) for index, stream in enumerate(streams)]
        before = engine.stats().as_dict()
        first_s: dict[str, float] = {}
        samples = {request.request_id: 0 for request in requests}
        codes: dict[str, Codes] = {}
        start, cpu_start = time.perf_counter(), time.process_time()
        for request in requests:
            engine.add(request)
        while engine.has_work:
            for name, chunk in self._step():
                first_s.setdefault(name, time.perf_counter() - start)
                samples[name] += chunk.num_samples
                if chunk.codes is not None:
                    codes[name] = np.frombuffer(chunk.codes, "<i8").reshape(config.decoder.num_codebooks, -1)
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        after = engine.stats().as_dict()
        steps = int(after["steps"] - before["steps"])
        return Made(
            wall_s=wall_s,
            cpu_s=cpu_s,
            first_audio_s=tuple(first_s[name] for name in samples),
            frames=tuple(count // config.codec.hop_length for count in samples.values()),
            steps=steps,
            rows_per_step=(after["row_steps"] - before["row_steps"]) / steps,
            stages={stage: after[stage] - before[stage] for stage in STAGES},
            codes=tuple(codes[name] for name in samples),
        )

    def serve(self, arrivals: Sequence[Arrival], limit_s: float) -> Served:
        """Each joins the batch at the step after its arrival; whoever is not done at the limit is cut off."""
        engine, log, clock = self._engine, Log(arrivals), Clock()
        waiting = deque(enumerate(arrivals))
        while (waiting or engine.has_work) and clock.now_s < limit_s:
            while waiting and waiting[0][1].at_s <= clock.now_s:
                index, arrival = waiting.popleft()
                engine.add(_request(str(index), arrival.stream, self._config, live=True))
            if not engine.has_work:
                clock.wait_until(min(limit_s, waiting[0][1].at_s))
                continue
            for name, chunk in self._step():
                log.heard(int(name), clock.now_s)
                if chunk.is_last:
                    log.finished(int(name), clock.now_s)
        for index in range(len(arrivals)):
            engine.abort(str(index))
        return log.served(clock.now_s)

    def _step(self) -> Iterator[tuple[str, AudioChunk]]:
        for output in self._engine.step():
            if isinstance(output.news, TuttiError):
                raise output.news
            yield output.request_id, output.news


def _request(
    name: str, stream: Stream, config: ModelConfig, *, greedy: bool = False, live: bool = False
) -> GenerationRequest:
    # A hundredth of a frame more, so that a duration never rounds down to one frame less.
    duration_s = (stream.frames + 0.01) / config.frame_rate
    if stream.frames == config.max_frames:
        duration_s = config.max_duration_s
    sampling = SamplingParams(guidance=GUIDANCE, top_k=TOP_K, greedy=greedy)
    return GenerationRequest(name, stream.prompt, duration_s, stream.seed, sampling, live=live)
