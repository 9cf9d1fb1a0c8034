"""The vocabulary every layer speaks: what is asked for and what comes back.

This module knows no torch, no Ray and no HTTP: the ingress imports it without loading a model library. What crosses
processes has a `WireForm`: a field that is added has a default, so versions may differ while a platform is updated.
One verb runs through all layers (HTTP client, Serve handle, replica, engine, test fake):
``generate(request: GenerationRequest) -> AsyncIterator[AudioChunk]``; closing the iterator cancels.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from models.errors import InvalidRequestError
from models.sound_prompts import AudioPrompt, CodePrompt, Tune
from models.style_prompt import HeardStyle, StylePrompt
from models.wire_form import WireForm

# The prompts are said beside the rest: whoever speaks of requests finds all of it here.
__all__ = ["AudioChunk", "AudioPrompt", "CodePrompt", "GenerationRequest", "Generator", "SamplingParams", "Tune"]

MAX_PROMPT_CHARACTERS = 2000
MAX_SEED = 2**63 - 1
DEFAULT_EXTEND_STRIDE_S = 18.0
DEFAULT_STYLE_BETA, MAX_GUIDANCE_BETA = 5.0, 10.0
LONGEST_TRACK_S = 600.0
"""What an engine makes unless it is told otherwise: beyond a model's own window, window by window."""
NO_SEPARATION, HTDEMUCS = "none", "htdemucs"
"""What is taken out of a melody before its tune is looked for: nothing; or drums and bass, by Demucs' htdemucs."""


def _finite(param: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRequestError(f"{param} must be a finite number, got {value!r}", param=param)
    return float(value)


@dataclass(frozen=True, slots=True)
class SamplingParams(WireForm):
    """How tokens are drawn. The defaults are audiocraft's, not transformers' (whose top_k is 50).

    Attributes:
        guidance: classifier-free guidance coefficient, 0 < guidance <= 20; above 1 a request takes two rows.
        temperature: 0 means greedy.
        top_k: keep the k most likely tokens, ties included; 0 keeps all.
        top_p: keep the smallest set whose mass before a token is <= top_p; if > 0, top_k is ignored.
        greedy: take the most likely token, whatever the temperature.
        guidance_beta: of double guidance, 1 to 10: how much the text counts beside a melody or style, where 1 is as
            much; None: 5 beside a style, 1 beside a melody, as audiocraft has it. Above 1 a request takes three rows.

    Raises:
        InvalidRequestError: naming the parameter that is out of range.
    """

    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    greedy: bool = False
    guidance_beta: float | None = None

    def __post_init__(self) -> None:
        if not 0 < _finite("guidance", self.guidance) <= 20:
            raise InvalidRequestError(f"guidance must be in (0, 20], got {self.guidance}", param="guidance")
        if not 0 <= _finite("temperature", self.temperature) <= 10:
            raise InvalidRequestError(f"temperature must be in [0, 10], got {self.temperature}", param="temperature")
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 0:
            raise InvalidRequestError(f"top_k must be an integer >= 0, got {self.top_k!r}", param="top_k")
        if not 0 <= _finite("top_p", self.top_p) <= 1:
            raise InvalidRequestError(f"top_p must be in [0, 1], got {self.top_p}", param="top_p")
        beta, most = self.guidance_beta, MAX_GUIDANCE_BETA
        if beta is not None and not 1 <= _finite("guidance_beta", beta) <= most:
            raise InvalidRequestError(f"guidance_beta must be in [1, {most:g}], got {beta}", param="guidance_beta")

    @property
    def is_greedy(self) -> bool:
        return self.greedy or self.temperature == 0


@dataclass(frozen=True, slots=True)
class GenerationRequest(WireForm):
    """One track of music to make.

    Attributes:
        request_id: unique among the requests in flight.
        prompt: what to play; "" is the null condition (unconditioned music).
        duration_s: seconds; the number of frames is ``int(duration_s * frame_rate)``.
        seed: 0 <= seed < 2**63; the same seed gives the same tokens alone, in a batch, streamed or not.
        live: somebody hears the track while it is made, so it must keep up with them; without, it is made when there
            is time, which is never later than its share. Changes no sample.
        trace: ids of what this belongs to, for the log lines of whoever works on it; never looked at otherwise.
        continues: music to go on from: it is the beginning of the track and counts toward its duration.
        extend_stride_s: seconds by which each window of a track longer than one moves on; the rest of a window is what
            the next one goes on from.
        melody: sound whose tune is followed, its chroma; beyond its end it begins anew. Only some models listen to one.
        melody_separation: what is taken out of it before: "none", or "htdemucs" where the engine has that.
        style: sound that the music is to sound like. Only some models listen to one.
        resumes: codes of this very track from its beginning, as `AudioChunk.finished` has them: an attempt that was cut
            short is not made again, only its sound. It holds what the track ``continues``, too.

    Raises:
        InvalidRequestError: naming the parameter that is out of range. The model's own maximum duration
            is checked by whoever knows the model (ingress and engine).
    """

    request_id: str
    prompt: str
    duration_s: float
    seed: int = 0
    sampling: SamplingParams = field(default_factory=SamplingParams)
    trace: Mapping[str, str] = field(default_factory=dict, compare=False)
    live: bool = True
    continues: CodePrompt | AudioPrompt | None = None
    extend_stride_s: float = DEFAULT_EXTEND_STRIDE_S
    melody: AudioPrompt | Tune | None = None
    melody_separation: str = NO_SEPARATION
    style: StylePrompt | HeardStyle | None = None
    resumes: CodePrompt | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise InvalidRequestError(f"prompt must be text, got {type(self.prompt).__name__}", param="prompt")
        if len(self.prompt) > MAX_PROMPT_CHARACTERS:
            raise InvalidRequestError(
                f"prompt has {len(self.prompt)} characters, at most {MAX_PROMPT_CHARACTERS} are allowed", param="prompt"
            )
        if any(0xD800 <= ord(char) <= 0xDFFF for char in self.prompt):
            raise InvalidRequestError("prompt holds unpaired surrogates, which are not text", param="prompt")
        if _finite("duration_s", self.duration_s) <= 0:
            raise InvalidRequestError(f"duration must be above 0 seconds, got {self.duration_s}", param="duration")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= MAX_SEED:
            raise InvalidRequestError(f"seed must be an integer in [0, 2**63), got {self.seed!r}", param="seed")
        if not isinstance(self.live, bool):
            raise InvalidRequestError(f"live must be true or false, got {self.live!r}", param="live")
        if _finite("extend_stride", self.extend_stride_s) <= 0:
            raise InvalidRequestError(
                f"extend_stride must be above 0 seconds, got {self.extend_stride_s}", param="extend_stride"
            )
        self._check_sounds()

    def _check_sounds(self) -> None:
        if not isinstance(self.continues, CodePrompt | AudioPrompt | None):
            raise InvalidRequestError("music to go on from must be codes or audio", param="continue")
        if not isinstance(self.resumes, CodePrompt | None):
            raise InvalidRequestError("an attempt is resumed from codes", param="resumes")
        if not isinstance(self.melody, AudioPrompt | Tune | None):
            raise InvalidRequestError("a melody must be audio", param="melody")
        if not isinstance(self.style, StylePrompt | HeardStyle | None):
            raise InvalidRequestError("a style must be audio", param="style")

    @property
    def begins_with(self) -> CodePrompt | AudioPrompt | None:
        """Music that is known before it is made."""
        return self.continues if self.resumes is None else self.resumes

    @property
    def has_sound(self) -> bool:
        """Whether it holds sound, to go on from, to follow or to sound like, that is encoded before it is queued."""
        return any(isinstance(each, AudioPrompt | StylePrompt) for each in (self.continues, self.melody, self.style))

    @property
    def guidance_beta(self) -> float:
        """Of double guidance; 1 is none: a model that hears nothing beside the text has nothing to weigh it against."""
        if not self.prompt or (self.melody is None and self.style is None) or self.sampling.guidance <= 1:
            return 1.0
        if self.sampling.guidance_beta is None:
            return 1.0 if self.style is None else DEFAULT_STYLE_BETA
        return self.sampling.guidance_beta

    @property
    def num_rows(self) -> int:
        """Of a step that compute it: a row that hears all it listens to; with guidance a null row, which hears nothing,
        to compare it with; with double guidance another that hears all but the text. They are never parted."""
        hears = self.prompt != "" or self.melody is not None or self.style is not None
        if not hears or self.sampling.guidance <= 1:
            return 1
        return 2 if self.guidance_beta == 1 else 3


@dataclass(frozen=True, slots=True)
class AudioChunk(WireForm):
    """A finished piece of audio: samples that no later token can change.

    Attributes:
        index: 0, 1, 2 … within the request.
        first_sample: offset of this chunk in the track, in samples per channel.
        channels: 1 or 2.
        sample_rate: Hz.
        pcm: little-endian float32, channels interleaved, in [-1, 1]; ``len(pcm) == 4 * channels * num_samples``.
        total_samples: samples per channel of the whole track, known from the first chunk on.
        is_last: the end marker; an iterator that ends without it was cut short.
        codes: little-endian int64 ``[K, frames]`` of the whole track, delays undone, on the last chunk when the
            engine was asked to return codes, else None.
        finished: codes of the windows that are finished, on the first chunk after each of a track of several, when the
            engine was asked to return codes: what another attempt ``resumes``, which then makes the same track.
    """

    index: int
    first_sample: int
    channels: int
    sample_rate: int
    pcm: bytes
    total_samples: int
    is_last: bool
    codes: bytes | None = None
    finished: CodePrompt | None = None

    @property
    def num_samples(self) -> int:
        return len(self.pcm) // (4 * self.channels)

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate


class Generator(Protocol):
    """The one verb. Client, replica, engine and the tests' fake all offer it."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        """Yield the track piece by piece; closing the iterator cancels the request.

        Raises:
            TuttiError: a typed error; see models.errors.
        """
        ...
