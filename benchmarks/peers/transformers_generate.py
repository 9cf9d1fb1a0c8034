"""``MusicgenForConditionalGeneration.generate``, called as its documentation does.

It takes a static batch: every stream is made as long as the longest, and nothing can be heard before all of it is done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.sides import Codes, Made
from benchmarks.weights import Weights
from benchmarks.workload import GUIDANCE, TOP_K, Stream


class Transformers:
    """``generate`` on the same weights.

    Args:
        settings: what ``generate`` is given besides, for example which cache to use.
    """

    def __init__(self, weights: Weights, dtype: torch.dtype, settings: Mapping[str, Any] | None = None) -> None:
        self._model = weights.theirs_in(dtype)
        self._tokenizer = weights.tokenizer
        self._config = weights.config
        self._settings = dict(settings or {})

    def make(self, streams: Sequence[Stream], *, greedy: bool = False) -> Made:
        """One static batch, as long as its longest stream."""
        start, cpu_start = time.perf_counter(), time.process_time()
        with self._watched() as seen:
            audio = self.generate(streams, greedy=greedy)
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        return Made(
            wall_s=wall_s,
            cpu_s=cpu_s,
            first_audio_s=(wall_s,) * len(streams),
            frames=(audio.shape[-1] // self._config.codec.hop_length,) * len(streams),
            steps=self.steps(streams),
            rows_per_step=2.0 * len(streams),
            codes=stream_codes(seen),
        )

    def steps(self, streams: Sequence[Stream]) -> int:
        """Of the decoder, for one batch of these."""
        return max(stream.frames for stream in streams) + max(self._config.decoder.delays)

    @torch.inference_mode()
    def generate(self, streams: Sequence[Stream], *, greedy: bool = False, after_step: Any = None) -> Tensor:
        """Samples [B, channels, samples] in memory of the CPU.

        Args:
            after_step: a criterion for stopping, which is asked after every step.
        """
        sampling = {"do_sample": False} if greedy else {"do_sample": True, "top_k": TOP_K, "temperature": 1.0}
        torch.manual_seed(streams[0].seed)
        audio: Tensor = self._model.generate(
            **encode(self._tokenizer, [stream.prompt for stream in streams], self._model.device),
            **sampling,
            **self._settings,
            guidance_scale=GUIDANCE,
            max_new_tokens=self.steps(streams),
            stopping_criteria=after_step and [after_step],
        )
        return audio.cpu()

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


def stream_codes(seen: Sequence[Tensor]) -> tuple[Codes, ...]:
    """``[K, frames]`` per stream; stereo is decoded left and right, and its codebooks interleave."""
    batch = torch.stack(list(seen), dim=2).flatten(1, 2)  # [B, K / channels, channels, frames] to [B, K, frames]
    return tuple(batch.cpu().numpy())


def encode(tokenizer: Any, prompts: Sequence[str], device: torch.device) -> dict[str, Tensor]:
    """Token ids padded at the end, and their mask."""
    ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    longest = max(len(each) for each in ids)
    padded = [each + [0] * (longest - len(each)) for each in ids]
    mask = [[1] * len(each) + [0] * (longest - len(each)) for each in ids]
    return {"input_ids": torch.tensor(padded, device=device), "attention_mask": torch.tensor(mask, device=device)}
