"""The published way to hear transformers' music while it is made (MusicgenStreamer of the musicgen-streaming demo).

``generate`` runs in a thread, and a streamer sees each step's codes. After every 1.5 s of codes (the demo's setting)
the streamer decodes all codes from the beginning again, and gives out what is new but for a sixth of a piece at the
end, which the next decoding may still change. One stream at a time. Written anew from that description.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.transformers_generate import Transformers, stream_codes
from benchmarks.serving import Clock, Log, Served
from benchmarks.sides import Codes, Made
from benchmarks.weights import Weights
from benchmarks.workload import Arrival, Stream
from models.config import ModelConfig
from models.musicgen.delay import DelayPattern

PIECE_S = 1.5
HELD_BACK = 6  # a sixth of a piece


class PieceStreamer:
    """Takes the codes of each step of one stream; pieces of samples lie in ``pieces``, None after the last.

    transformers 5.23 takes a ``streamer`` for MusicGen and does not hand it on, so this is called as a criterion for
    stopping, which sees the codes after every step, and never asks to stop.
    """

    def __init__(self, model: Any, config: ModelConfig, steps: int) -> None:
        self.pieces: queue.SimpleQueue[Tensor | None] = queue.SimpleQueue()
        self.codes: tuple[Codes, ...] = ()
        self._codec = model.audio_encoder
        self._decoder = config.decoder
        self._steps = steps
        self._every = int(PIECE_S * config.frame_rate)
        self._held_back = config.codec.hop_length * (self._every - self._decoder.num_codebooks) // HELD_BACK
        self._lines: list[Tensor] = []  # int64 [K] of each step
        self._given = 0

    def __call__(self, codes: Tensor, _scores: object, **_settings: object) -> Tensor:
        """
        Args:
            codes: [K, positions so far]

        Returns:
            for each of the K, whether to stop: never.
        """
        self._lines.append(codes[:, -1].cpu())
        if len(self._lines) == self._steps:
            self._give(self._decode())
            self.pieces.put(None)
        elif len(self._lines) % self._every == 0:
            samples = self._decode()
            self._give(samples[..., : max(self._given, samples.shape[-1] - self._held_back)])
        return torch.zeros(len(codes), dtype=torch.bool, device=codes.device)

    def _give(self, samples: Tensor) -> None:
        if samples.shape[-1] > self._given:
            self.pieces.put(samples[..., self._given :])
            self._given = samples.shape[-1]

    def _decode(self) -> Tensor:
        """[1, channels, samples] of all codes so far."""
        lines = torch.stack(self._lines)  # [steps, K]
        pattern = DelayPattern(self._decoder.delays, len(lines) - max(self._decoder.delays))
        codes = pattern.undo(lines)[None].to(self._codec.device)  # [1, K, frames]
        channels = self._decoder.audio_channels
        sides = [codes[:, channel::channels] for channel in range(channels)]
        self.codes = stream_codes(sides)
        audio = [self._codec.decode(each[None], audio_scales=[None]).audio_values for each in sides]
        return torch.cat(audio, dim=1).cpu()


class Streamer:
    """transformers with a streamer; streams are made one after the other."""

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        self._transformers = Transformers(weights, dtype)
        self._model = weights.theirs_in(dtype)
        self._config = weights.config

    def make(self, streams: Sequence[Stream], *, greedy: bool = False) -> Made:
        """One after the other, and each one waits for those before it."""
        log, cpu_start, clock = Log([Arrival(0.0, stream) for stream in streams]), time.process_time(), Clock()
        made = [self._stream(index, stream, log, clock, greedy) for index, stream in enumerate(streams)]
        served = log.served(clock.now_s)
        return Made(
            wall_s=served.wall_s,
            cpu_s=time.process_time() - cpu_start,
            first_audio_s=tuple(0.0 if each is None else each for each in served.first_audio_s),
            frames=tuple(frames for frames, _ in made),
            steps=sum(self._transformers.steps([stream]) for stream in streams),
            rows_per_step=2.0,
            codes=tuple(codes for _, each in made for codes in each),
        )

    def serve(self, arrivals: Sequence[Arrival], limit_s: float) -> Served:
        """In the order of arrival; none is begun after the limit."""
        log, clock = Log(arrivals), Clock()
        for index, arrival in enumerate(arrivals):
            clock.wait_until(min(limit_s, arrival.at_s))
            if clock.now_s >= limit_s:
                break
            self._stream(index, arrival.stream, log, clock, greedy=False)
        return log.served(clock.now_s)

    def _stream(
        self, index: int, stream: Stream, log: Log, clock: Clock, greedy: bool
    ) -> tuple[int, tuple[Codes, ...]]:
        """Frames and codes of one stream; its listener has it all when the streamer says so."""
        streamer = PieceStreamer(self._model, self._config, self._transformers.steps([stream]))
        threads, samples = torch.get_num_threads(), 0

        def generate() -> None:
            torch.set_num_threads(threads)  # some of torch's limits are per thread
            try:
                self._transformers.generate([stream], greedy=greedy, after_step=streamer)
            finally:
                streamer.pieces.put(None)  # whatever happens, nobody is left listening

        with ThreadPoolExecutor(1) as pool:
            generated = pool.submit(generate)
            while (piece := streamer.pieces.get()) is not None:
                log.heard(index, clock.now_s)
                samples += piece.shape[-1]
            log.finished(index, clock.now_s)
        generated.result()  # raises what was raised there
        return samples // self._config.codec.hop_length, streamer.codes
