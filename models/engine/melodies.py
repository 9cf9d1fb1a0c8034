"""Sound whose tune is followed, as the model hears it: in a thread of whoever asks, never in the one that steps."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.conditioning.chroma import tune
from models.config import ModelConfig
from models.engine.windows import Window
from models.errors import InvalidRequestError
from models.types import NO_SEPARATION, AudioPrompt, GenerationRequest, Tune


class MelodyReader:
    """One sound at a time, so that many at once take no more memory and no more cores than one."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._lock = threading.Lock()

    def heard(self, request: GenerationRequest, windows: Sequence[Window]) -> GenerationRequest:
        """The request with a tune in place of sound; itself if it has none. A window of it takes some 30 ms.

        A track of one window hears the first 30 s. Of a longer one each window hears as much from where it begins, and
        beyond the sound's end it begins anew, sample by sample, as audiocraft has it.

        Args:
            windows: of the track.

        Raises:
            InvalidRequestError: there are samples that are no numbers.
        """
        if not isinstance(request.melody, AudioPrompt):
            return request
        assert request.melody_separation == NO_SEPARATION, "a melody is separated first: this is a bug"
        samples = mono(request.melody)
        is_long = windows[-1].start + windows[-1].frames > self._config.max_frames
        with self._lock:
            pieces = (self._piece(samples, window.start) if is_long else self._first(samples) for window in windows)
            heard = tuple(self._tune(piece) for piece in pieces)
        return replace(request, melody=Tune(heard))

    def _first(self, samples: Tensor) -> Tensor:
        return samples[: self._samples(self._config.max_frames)]

    def _piece(self, samples: Tensor, first_frame: int) -> Tensor:
        places = torch.arange(self._samples(self._config.max_frames)) + self._samples(first_frame)
        return samples[places % len(samples)]

    def _samples(self, frames: int) -> int:
        return frames * self._config.codec.hop_length

    def _tune(self, samples: Tensor) -> bytes:
        return bytes(tune(samples, self._config.sample_rate).tolist())


def mono(melody: AudioPrompt) -> Tensor:
    """float32 [N], both channels mixed.

    Raises:
        InvalidRequestError: there are samples that are no numbers.
    """
    samples = np.frombuffer(melody.pcm, "<f4").astype(np.float32).reshape(-1, melody.channels)
    if not np.isfinite(samples).all():
        raise InvalidRequestError("the melody holds samples that are no numbers", param="melody")
    return torch.from_numpy(samples.mean(axis=1))
