"""The two sides of the comparison, asked in the same words: Tutti's engine, and transformers' ``generate``.

transformers takes a static batch: every stream is made as long as the longest and nothing can be heard before all
of it is done. It is called as its documentation does, with its default cache and attention (SDPA).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.workload import GUIDANCE, TOP_K, Stream
from models.config import EngineConfig, ModelConfig
from models.engine.engine import Engine
from models.engine.loader import LoadedModel
from models.engine.stats import STAGES
from models.errors import TuttiError
from models.types import GenerationRequest, SamplingParams

Codes = NDArray[np.int64]


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
        codes: ``[K, frames]`` for each stream, if asked for.
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
        streams: the largest set that will be asked for.
    """

    def __init__(self, model: LoadedModel, device: str, dtype: str, streams: Sequence[Stream]) -> None:
        self._model = model
        delay = max(model.config.decoder.delays)
        config = EngineConfig(
            device=device,
            dtype=dtype,
            codec_dtype=dtype,
            max_rows=2 * len(streams),
            kv_positions=sum(2 * (stream.frames + delay) for stream in streams),
            return_codes=True,
        )
        self._engine = Engine(model, config)

    def make(self, streams: Sequence[Stream], *, greedy: bool = False) -> Made:
        """All arrive at once; each leaves when it is done."""
        engine, config = self._engine, self._model.config
        requests = [_request(str(index), stream, config, greedy) for index, stream in enumerate(streams)]
        before = engine.stats().as_dict()
        first_s: dict[str, float] = {}
        samples = {request.request_id: 0 for request in requests}
        codes: dict[str, Codes] = {}
        start, cpu_start = time.perf_counter(), time.process_time()
        for request in requests:
            engine.add(request)
        while engine.has_work:
            for output in engine.step():
                if isinstance(output.news, TuttiError):
                    raise output.news
                first_s.setdefault(output.request_id, time.perf_counter() - start)
                samples[output.request_id] += output.news.num_samples
                if output.news.codes is not None:
                    flat = np.frombuffer(output.news.codes, "<i8")
                    codes[output.request_id] = flat.reshape(config.decoder.num_codebooks, -1)
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


def _request(name: str, stream: Stream, config: ModelConfig, greedy: bool) -> GenerationRequest:
    # A hundredth of a frame more, so that a duration never rounds down to one frame less.
    duration_s = (stream.frames + 0.01) / config.frame_rate
    if stream.frames == config.max_frames:
        duration_s = config.max_duration_s
    sampling = SamplingParams(guidance=GUIDANCE, top_k=TOP_K, greedy=greedy)
    return GenerationRequest(name, stream.prompt, duration_s, stream.seed, sampling)


class Transformers:
    """``MusicgenForConditionalGeneration.generate`` on the same weights."""

    def __init__(self, model: Any, tokenizer: Any, config: ModelConfig) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._config = config

    @torch.inference_mode()
    def make(self, streams: Sequence[Stream], *, greedy: bool = False) -> Made:
        """One static batch, as long as its longest stream."""
        steps = max(stream.frames for stream in streams) + max(self._config.decoder.delays)
        sampling = {"do_sample": False} if greedy else {"do_sample": True, "top_k": TOP_K, "temperature": 1.0}
        torch.manual_seed(streams[0].seed)
        start, cpu_start = time.perf_counter(), time.process_time()
        with self._watched() as seen:
            audio = self._model.generate(
                **self._encode([stream.prompt for stream in streams]),
                **sampling,
                guidance_scale=GUIDANCE,
                max_new_tokens=steps,
            )
        audio = audio.cpu()
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        return Made(
            wall_s=wall_s,
            cpu_s=cpu_s,
            first_audio_s=(wall_s,) * len(streams),
            frames=(audio.shape[-1] // self._config.codec.hop_length,) * len(streams),
            steps=steps,
            rows_per_step=2.0 * len(streams),
            codes=self._codes(seen),
        )

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids padded at the end, and their mask."""
        ids = [self._tokenizer(prompt)["input_ids"] for prompt in prompts]
        longest = max(len(each) for each in ids)
        device = self._model.device
        padded = [each + [0] * (longest - len(each)) for each in ids]
        mask = [[1] * len(each) + [0] * (longest - len(each)) for each in ids]
        return {
            "input_ids": torch.tensor(padded, device=device),
            "attention_mask": torch.tensor(mask, device=device),
        }

    @contextmanager
    def _watched(self) -> Iterator[list[Tensor]]:
        """The codes that ``generate`` hands to its codec: it returns audio only."""
        codec, seen = self._model.audio_encoder, list[Tensor]()
        decode = codec.decode

        def watched(audio_codes: Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append(audio_codes[0])  # [B, K, frames]
            return decode(audio_codes, *args, **kwargs)

        codec.decode = watched
        try:
            yield seen
        finally:
            del codec.decode

    def _codes(self, seen: Sequence[Tensor]) -> tuple[Codes, ...]:
        """``[K, frames]`` per stream; stereo is decoded left and right, and its codebooks interleave."""
        batch = torch.stack(list(seen), dim=2).flatten(1, 2)  # [B, K / channels, channels, frames] to [B, K, frames]
        return tuple(batch.cpu().numpy())
