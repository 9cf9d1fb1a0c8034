"""What ``tutti generate`` was asked for: one call, one or several tracks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from api.seeds import track_seed
from models.types import AudioChunk, GenerationRequest

Use = Literal["melody", "continuation", "style"]
OPTIONS: Mapping[Use, str] = {"melody": "--melody", "continuation": "--continue", "style": "--style"}


@dataclass(frozen=True, slots=True)
class AudioId:
    """A track or upload that the server has."""

    id: str


@dataclass(frozen=True, slots=True)
class Order:
    """
    Attributes:
        request: of the first track, without audio.
        num_tracks: variations of it, which differ in their seeds.
        extend_stride_s: None: nothing was said of it.
        sounds: audio that it refers to.
        style_excerpt, style_streams: how a style is heard; None: nothing was said of it.
    """

    request: GenerationRequest
    num_tracks: int = 1
    extend_stride_s: float | None = None
    sounds: Mapping[Use, Path | AudioId] = field(default_factory=dict)
    style_excerpt: float | None = None
    style_streams: int | None = None

    @property
    def style_heard(self) -> Mapping[str, float | int | None]:
        """As a server is told of it."""
        return {"style_excerpt": self.style_excerpt, "style_streams": self.style_streams}

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of each track."""
        return tuple(track_seed(self.request.seed, position) for position in range(self.num_tracks))


class Maker(Protocol):
    """An engine or a server."""

    def make(self, order: Order) -> AbstractAsyncContextManager[Sequence[AsyncGenerator[AudioChunk]]]:
        """The order's tracks while they are made; leaving before their end gives them up.

        Raises:
            TuttiError: why it can not be, now or while it is made.
        """
        ...
