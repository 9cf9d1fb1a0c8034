"""Music to go on from, from sound to codes: in a thread of whoever asks, never in the one that steps."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.config import ModelConfig
from models.encodec.encoder import EncodecEncoder, has_encoder
from models.errors import InvalidRequestError
from models.types import AudioPrompt, CodePrompt, GenerationRequest


class PromptEncoder:
    """A checkpoint's encoder, read from its files when the first request needs it: few ever do.

    One sound at a time, so that many at once take no more memory and no more cores than one.

    Args:
        state: tensors by their names below ``audio_encoder.``.
    """

    def __init__(self, config: ModelConfig, state: Mapping[str, Tensor]) -> None:
        self._config = config
        self._state = state
        self._lock = threading.Lock()
        self._encoder: EncodecEncoder | None = None  # guarded by _lock

    def check(self, prompt: AudioPrompt) -> None:
        """
        Raises:
            InvalidRequestError: this model can not go on from such a sound.
        """
        if not has_encoder(self._state):
            raise InvalidRequestError(
                "this model's checkpoint holds no encoder, so it can not go on from audio: name an earlier track of "
                "its own instead",
                param="continue",
            )
        if prompt.sample_rate != self._config.sample_rate:
            raise InvalidRequestError(
                f"the audio to go on from has {prompt.sample_rate} samples a second, this model takes "
                f"{self._config.sample_rate}: resample it",
                param="continue",
            )

    def encoded(self, request: GenerationRequest) -> GenerationRequest:
        """The request with codes in place of sound; itself if it has none. From any thread; may take a second.

        Raises:
            InvalidRequestError: as `check`, or there are samples that are no numbers.
            CheckpointError: the encoder's weights are not what the configuration calls for.
        """
        if not isinstance(request.continues, AudioPrompt):
            return request
        self.check(request.continues)
        samples = self._channels(request.continues)
        with self._lock:
            if self._encoder is None:
                self._encoder = EncodecEncoder(self._config.codec, self._state)
            codes = self._encoder.encode(samples)  # [channels, K, frames]
        interleaved = codes.transpose(0, 1).reshape(-1, codes.shape[2])  # [1L, 1R, 2L, 2R, …]
        prompt = CodePrompt(interleaved.numpy().astype("<i8").tobytes(), len(interleaved))
        return replace(request, continues=prompt)

    def _channels(self, prompt: AudioPrompt) -> Tensor:
        """float32 [1 or the model's channels, N]"""
        pcm = np.frombuffer(prompt.pcm, "<f4").astype(np.float32).reshape(-1, prompt.channels)
        samples = torch.from_numpy(pcm).t().contiguous()
        if not bool(samples.isfinite().all()):
            raise InvalidRequestError("the audio to go on from holds samples that are no numbers", param="continue")
        return samples.mean(0, keepdim=True) if self._config.channels == 1 else samples
