"""What is asked of audiocraft and of us: both processes read it here, all they share is a folder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ANSWERS, PUBLISHED, SEPARATOR = "answers.pt", "published", "separator.safetensors"
"""A file, a folder of configurations, and Demucs' weights if it is installed, below the folder that both know."""
WINDOW_S, STRIDE_S = 40.01 / 50, 24.01 / 50
"""Of the long form: 40 frames every 24, so that tracks of two and three windows are soon made."""

VOCAB = 64
RATE = 32_000
"""Of the melody models: samples per second. The others' codec is smaller and has 400."""
CODEC = {"ratios": (4, 2), "filters": 2, "lstm_layers": 2, "vocab": VOCAB}
MELODY = {**CODEC, "ratios": (8, 5, 4, 4), "melody": True}
SHAPES: dict[str, dict[str, Any]] = {
    # Our kernel takes multiples of 64; the other widths are torch's.
    "mono": {"hidden": 64, "layers": 2, "heads": 4, "ffn": 128, "seed": 18, **CODEC},
    "narrow": {"hidden": 24, "layers": 3, "heads": 2, "ffn": 60, "seed": 2, **CODEC, "pad_mode": "constant"},
    "stereo": {"hidden": 64, "layers": 2, "heads": 1, "ffn": 256, "seed": 3, "stereo": True, **CODEC},
    "melody": {"hidden": 64, "layers": 2, "heads": 2, "ffn": 128, "seed": 32, **MELODY},
    "style": {"hidden": 64, "layers": 2, "heads": 2, "ffn": 128, "seed": 7, **CODEC, "ratios": (8, 5, 4, 4)},
    "stereo-melody": {"hidden": 24, "layers": 2, "heads": 2, "ffn": 60, "seed": 5, "stereo": True, **MELODY},
}

PROMPTS = ("a slow piano, with bass and drums", "x", " ", "Ünïcode · 90 bpm")


@dataclass(frozen=True)
class Track:
    """
    Attributes:
        prompt: None for music without a text.
        known: frames of codes it goes on from.
        heard: frames of sound it goes on from, through the codec's encoder; the last is a part of one.
        melody: name of the sound whose tune it follows.
        style: name of the sound that it is to sound like, as long as an excerpt: nothing is drawn.
        beta: of double guidance.
    """

    name: str
    frames: int
    prompt: str | None = PROMPTS[0]
    guidance: float = 3.0
    known: int = 0
    heard: int = 0
    melody: str | None = None
    style: str | None = None
    beta: float = 1.0

    @property
    def duration_s(self) -> float:
        return (self.frames + 0.01) / 50


TRACKS = (
    Track("text", 40),
    Track("another text, shorter", 23, prompt=PROMPTS[3]),
    Track("a text of blanks", 17, prompt=PROMPTS[2]),
    Track("unguided", 31, guidance=1.0),
    Track("strongly guided", 12, guidance=7.5),
    Track("no text", 28, prompt=None),
    Track("from codes", 36, known=13),
    Track("from codes, no text", 20, prompt=None, known=19),
    Track("from sound", 33, heard=12),
    Track("two windows", 60, prompt=PROMPTS[1]),
    Track("from codes, three windows", 75, known=7, guidance=2.0),
)
MELODY_TRACKS = (
    Track("text and melody", 30, melody="odd"),
    Track("melody", 24, prompt=None, melody="short"),
    Track("text", 21),
    Track("neither", 15, prompt=None),
    Track("unguided", 18, guidance=1.0, melody="odd"),
    Track("from codes", 26, known=9, melody="odd"),
    Track("two windows", 52, melody="long"),
)


STYLE_TRACKS = (
    Track("text and style", 30, style="style", beta=5.0),
    Track("both count alike", 24, style="style"),
    Track("strongly guided", 20, style="other style", beta=2.5, guidance=4.0),
    Track("style", 22, prompt=None, style="other style"),
    Track("text", 21),
    Track("neither", 15, prompt=None),
    Track("unguided", 18, guidance=1.0, style="style"),
    Track("from codes", 26, known=9, style="other style", beta=3.0),
)


def tracks_of(model: str) -> tuple[Track, ...]:
    if model == "style":
        return STYLE_TRACKS
    return MELODY_TRACKS if SHAPES[model].get("melody") else TRACKS


def known_codes(track: Track, codebooks: int) -> NDArray[np.int64]:
    """``[K, known]``"""
    return np.random.default_rng(track.known).integers(0, VOCAB, (codebooks, track.known))


def heard_sound(track: Track, channels: int) -> NDArray[np.float32]:
    """``[channels, samples]`` of the small codec."""
    samples = 8 * track.heard - 5
    return np.random.default_rng(samples).uniform(-1, 1, (channels, samples)).astype(np.float32)


# ------------------------------------------------------------------------------------------------ one step of sampling

SAMPLING = (
    {"temp": 1.0, "top_k": 250, "top_p": 0.0},
    {"temp": 0.7, "top_k": 5, "top_p": 0.0},
    {"temp": 1.6, "top_k": 1, "top_p": 0.0},
    {"temp": 1.0, "top_k": 0, "top_p": 0.0},
    {"temp": 1.2, "top_k": 250, "top_p": 0.9},
    {"temp": 0.9, "top_k": 3, "top_p": 0.3},
    {"temp": 1.0, "top_k": 0, "top_p": 1.0},
)
STEP_CODES, STEP_GUIDANCE = 300, 2.5
"""Of the step that is sampled: codes of a codebook, more than top_k; and its coefficient of guidance."""


def step_logits() -> NDArray[np.float32]:
    """``[2, 4, V]``: with the text and without; equal ones among them, which a cut must not part."""
    logits = np.random.default_rng(7).normal(0, 2, (2, 4, STEP_CODES)).astype(np.float32)
    logits[:, :, 10:16] = logits[:, :, 10:11]
    return logits


# -------------------------------------------------------------------------------------------------------------- melody

SOUNDS = {"short": 0.3, "odd": 0.771, "long": 4.0, "longest": 31.4}
STYLES = {"style": 3.0, "other style": 2.1}
"""Seconds; the first is shorter than the chroma's window, the last longer than what a model hears of one."""
SEPARATED = ("short", "odd")
"""Those that both have Demucs take drums and bass out of."""


def sound(name: str) -> NDArray[np.float32]:
    """``[samples]``: three notes one after the other, each with overtones and a little noise."""
    samples = int({**SOUNDS, **STYLES}[name] * RATE)
    times, noise = np.arange(samples) / RATE, np.random.default_rng(samples).normal(0, 0.01, samples)
    note = 220.0 * 2 ** (np.array([0, 4, 9])[np.arange(samples) * 3 // samples] / 12)
    tones = sum(np.sin(2 * math.pi * note * times * overtone) / overtone for overtone in (1, 2, 3))
    return (0.3 * tones + noise).astype(np.float32)
