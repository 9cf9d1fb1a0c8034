"""Drums and bass are taken out of melodies where an engine is set up for it: in one thread of its own, one at a time.

On a CPU that takes longer than the sound lasts, so the thread yields to the one that steps, and stops between two
segments when nobody waits for its sound any more.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from models.conditioning.separation import Separator
from models.config import ModelConfig
from models.engine.melodies import mono
from models.engine_config import EngineConfig
from models.errors import CheckpointError, InvalidRequestError
from models.types import HTDEMUCS, NO_SEPARATION, AudioPrompt, GenerationRequest

_NICENESS = 10  # above that of the process: of this thread, and of those that torch starts for it


class Separations:
    """
    Args:
        separator: None: melodies are heard as they are.
        num_threads: CPU threads; None leaves torch's own choice.
    """

    def __init__(self, model: ModelConfig, separator: Separator | None, num_threads: int | None = None) -> None:
        self._model = model
        self._separator = separator
        self._num_threads = num_threads
        self._ended = threading.Event()
        self._thread = ThreadPoolExecutor(1, "tutti-separation", self._begin)

    @classmethod
    def of(cls, model: ModelConfig, config: EngineConfig) -> Separations:
        """As the settings say.

        Raises:
            CheckpointError: the separator's extra is not installed, its weights are not there or broken, or the model
                listens to no melody.
        """
        if config.separator is None:
            return cls(model, None)
        if not model.takes_melody:
            raise CheckpointError("separator is set, but this model can not follow a melody: leave separator out")
        return cls(model, Separator.load(config.separator, config.device), config.num_threads)

    def check(self, request: GenerationRequest) -> None:
        """
        Raises:
            InvalidRequestError: there is no melody to separate, or nothing here that can do it.
        """
        wanted, param = request.melody_separation, "melody_separation"
        if wanted == NO_SEPARATION:
            return
        if request.melody is None:
            raise InvalidRequestError("melody_separation says how a melody is heard, and there is none", param)
        if wanted != HTDEMUCS or self._separator is None:
            raise InvalidRequestError(
                f"this model's melodies are heard as they are: {wanted!r} is not set up here, so leave "
                "melody_separation out",
                param,
            )

    async def separated(self, request: GenerationRequest) -> GenerationRequest:
        """The request with what is left of its melody in place of it; itself where nothing is to be taken out.

        Raises:
            InvalidRequestError: there are samples that are no numbers.
            EngineDeadError: the engine was shut down meanwhile.
        """
        if request.melody_separation == NO_SEPARATION or not isinstance(request.melody, AudioPrompt):
            return request
        left = threading.Event()
        try:
            running = asyncio.get_running_loop().run_in_executor(self._thread, self._melody, request, left)
            return replace(request, melody=await running, melody_separation=NO_SEPARATION)
        finally:
            left.set()

    def shutdown(self) -> None:
        """What is being separated is given up within a segment. Calling it twice is fine."""
        self._ended.set()
        self._thread.shutdown(wait=False)

    def _melody(self, request: GenerationRequest, left: threading.Event) -> AudioPrompt:
        assert self._separator is not None, "it is checked first: this is a bug"
        assert isinstance(request.melody, AudioPrompt), "it was looked at: this is a bug"
        rate = request.melody.sample_rate
        samples = mono(request.melody)[: self._samples_heard(request)]
        melody = self._separator.melody_of(samples, rate, lambda: left.is_set() or self._ended.is_set())
        return AudioPrompt(melody.numpy().astype("<f4").tobytes(), 1, rate)

    def _samples_heard(self, request: GenerationRequest) -> int:
        """By all windows of the track: a window begins within it and lasts as long as the longest."""
        model = self._model
        frames = int(request.duration_s * model.frame_rate)
        return (model.max_frames + (frames if frames > model.max_frames else 0)) * model.codec.hop_length

    def _begin(self) -> None:
        if sys.platform == "linux":  # elsewhere it would be the whole process that yields
            os.nice(_NICENESS)
        if self._num_threads is not None:
            torch.set_num_threads(self._num_threads)
