"""Sound that music is to sound like, as the model hears it: in a thread of whoever asks, never where steps are made."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.conditioning.style import StyleConditioner, excerpt_samples
from models.config import ModelConfig
from models.engine.windows import Window
from models.errors import InvalidRequestError
from models.style_excerpt import excerpt_start
from models.style_prompt import HeardStyle, StylePrompt
from models.types import AudioPrompt, GenerationRequest


class StyleReader:
    """One sound at a time, so that many at once take no more memory and no more cores than one.

    Args:
        conditioner: of the model; None: it takes no style, and no request with one comes here.
    """

    def __init__(self, config: ModelConfig, conditioner: StyleConditioner | None) -> None:
        self._config = config
        self._conditioner = conditioner
        self._lock = threading.Lock()

    def heard(self, request: GenerationRequest, windows: Sequence[Window]) -> GenerationRequest:
        """The request with codes in place of sound; itself if it has none. A window takes a third of a second.

        Each window hears an excerpt of its own, from where the track's seed says: of the whole sound in a track of one
        window, of the 30 s from where the window begins in a longer one, and there the sound begins anew beyond its
        end, as audiocraft has it.

        Args:
            windows: of the track.

        Raises:
            InvalidRequestError: there are samples that are no numbers.
        """
        style = request.style
        if not isinstance(style, StylePrompt) or self._conditioner is None:
            return request
        streams = self._conditioner.config.heard_streams if style.streams is None else style.streams
        samples = _mono(style.audio)
        with self._lock:
            pieces = self._excerpts(samples, excerpt_samples(style, self._conditioner.config), request.seed, windows)
            codes = tuple(self._conditioner.heard(piece, streams).numpy().tobytes() for piece in pieces)
        return replace(request, style=HeardStyle(codes, streams))

    def _excerpts(self, samples: Tensor, length: int, seed: int, windows: Sequence[Window]) -> Iterator[Tensor]:
        hop, longest = self._config.codec.hop_length, self._config.max_frames
        is_long = windows[-1].start + windows[-1].frames > longest
        for window in windows:
            first = window.start * hop if is_long else 0
            room = (max(longest * hop, length) if is_long else len(samples)) - length
            places = torch.arange(length) + first + excerpt_start(seed, window.start, room)
            yield samples[places % len(samples)]


def _mono(style: AudioPrompt) -> Tensor:
    """float32 [N]"""
    samples = np.frombuffer(style.pcm, "<f4").astype(np.float32).reshape(-1, style.channels)
    if not np.isfinite(samples).all():
        raise InvalidRequestError("the style holds samples that are no numbers", param="style")
    return torch.from_numpy(samples.mean(axis=1))
