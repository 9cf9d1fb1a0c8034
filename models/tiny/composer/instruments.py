"""Instruments: a note is the same waveform every time it is played, so the same note gives the same tokens.

All waveforms are float32 at 32 kHz, start at phase 0 on a frame border and end in a 20 ms fade.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.tiny.composer.theory import frequency_hz

SAMPLE_RATE = 32_000
FRAME = 640  # samples in a codec frame, 20 ms
Wave = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Timbre:
    """A harmonic recipe: (multiple of the fundamental, amplitude, decay time in seconds or 0 for none)."""

    partials: tuple[tuple[int, float, float], ...]
    attack_s: float
    gain: float


def _saw(count: int, softness: float) -> tuple[tuple[int, float, float], ...]:
    return tuple((n, (1 / n) * float(np.exp(-n / softness)), 0.0) for n in range(1, count + 1))


TIMBRES: dict[str, Timbre] = {
    "piano": Timbre(tuple((n, n**-1.4, 0.55 / n**0.7) for n in range(1, 9)), 0.003, 0.95),
    "organ": Timbre(((1, 1.0, 0.0), (2, 0.75, 0.0), (3, 0.45, 0.0), (4, 0.4, 0.0), (8, 0.25, 0.0)), 0.012, 0.42),
    "strings": Timbre(_saw(12, 4.0), 0.12, 0.75),
    "bells": Timbre(((1, 1.0, 0.6), (4, 0.6, 0.25), (10, 0.35, 0.09)), 0.002, 0.8),
    "synth": Timbre(tuple((n, 1 / n, 0.0) for n in range(1, 16, 2)), 0.004, 0.5),
    "guitar": Timbre(
        tuple((n, float(abs(np.sin(np.pi * n / 5.3))) / n**0.9, 0.4 / n**0.5) for n in range(1, 13)), 0.002, 0.9
    ),
    "bass": Timbre(((1, 1.0, 0.45), (2, 0.5, 0.3), (3, 0.25, 0.2), (4, 0.12, 0.12)), 0.006, 1.0),
}
FAMILIES = ("piano", "organ", "strings", "bells", "synth", "guitar")


@cache
def note(timbre: str, midi: int, frames: int) -> Wave:
    """One note held for ``frames`` frames: float32 [(frames + 1) * 640], peak about 0.5; the last frame is the fade."""
    recipe, pitch = TIMBRES[timbre], frequency_hz(midi)
    t = np.arange((frames + 1) * FRAME) / SAMPLE_RATE
    wave = np.zeros_like(t)
    for multiple, amplitude, decay_s in recipe.partials:
        if multiple * pitch < 12_000:
            envelope = np.exp(-t / decay_s) if decay_s else 1.0
            wave += amplitude * envelope * np.sin(2 * np.pi * multiple * pitch * t)
    wave *= np.minimum(1, t / recipe.attack_s) * recipe.gain * 0.5
    wave[-FRAME:] *= np.linspace(1, 0, FRAME) ** 2
    return wave.astype(np.float32)


@cache
def chord(timbre: str, midis: tuple[int, ...], frames: int) -> Wave:
    """Notes sounding together: float32 [(frames + 1) * 640]."""
    total: Wave = np.sum([note(timbre, midi, frames) for midi in midis], axis=0, dtype=np.float32)
    return total


@cache
def drum(name: str) -> Wave:
    """A one-shot drum sound, ``kick``, ``snare``, ``hat`` or ``open``: float32, whole frames."""
    noise = np.random.default_rng({"kick": 1, "snare": 2, "hat": 3, "open": 4}[name]).standard_normal(10 * FRAME)
    t = np.arange(noise.size) / SAMPLE_RATE
    bright = np.diff(noise, prepend=(0.0, 0.0), n=2)  # second difference: +12 dB per octave, a metallic hiss
    if name == "kick":
        phase = 2 * np.pi * (52 * t + 90 * 0.035 * (1 - np.exp(-t / 0.035)))
        wave = 0.95 * np.sin(phase) * np.exp(-t / 0.075) + 0.05 * bright * np.exp(-t / 0.002)
    elif name == "snare":
        wave = 0.35 * np.sin(2 * np.pi * 187.5 * t) * np.exp(-t / 0.05) + 0.22 * noise * np.exp(-t / 0.055)
    else:
        wave = 0.06 * bright * np.exp(-t / (0.018 if name == "hat" else 0.07))
    wave[-FRAME:] *= np.linspace(1, 0, FRAME) ** 2
    return wave.astype(np.float32)
