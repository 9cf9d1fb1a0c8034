"""What a clip sounds like, by signal analysis: tempo, drums, key, timbre family, loudness; and is it sound at all.

Tempo, drums and loudness are read off directly. Key and family are told by small ridge classifiers on chroma and
mel features, fitted on the composer's training pieces; evaluate.py prints how often they are right on held-out
originals, which is the ceiling of the adherence table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tiny.composer.instruments import SAMPLE_RATE
from models.tiny.composer.theory import G4_HZ

Array = NDArray[np.floating[Any]]
_FFT, _HOP = 1024, 320  # 32 ms windows every 10 ms


def _spectrogram(wave: Array, fft: int, hop: int) -> Array:
    """Power [frames, bins] under a Hann window."""
    if wave.size < fft:
        wave = np.pad(wave, (0, fft - wave.size))
    frames = np.lib.stride_tricks.sliding_window_view(wave, fft)[::hop]
    power: Array = np.abs(np.fft.rfft(frames * np.hanning(fft), axis=1)) ** 2
    return power


def onset_envelope(wave: Array) -> Array:
    """Positive spectral flux of the log spectrum, one value every 10 ms, mean removed."""
    bands = _mel(np.sqrt(_spectrogram(wave, _FFT, _HOP)), 40)
    level = np.log(bands + 1e-3 * bands.max() + 1e-9)
    flux = np.maximum(np.diff(level, axis=0, prepend=level[:1]), 0).sum(1)
    centred: Array = flux - flux.mean()
    return centred


def tempo_bpm(wave: Array, low: float = 78.0, high: float = 160.0) -> float:
    """Beats a minute in [low, high): the lag whose multiples (sixteenth to bar) the onset envelope repeats best."""
    envelope = onset_envelope(wave)
    spectrum = np.fft.rfft(envelope, 2 * envelope.size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: envelope.size]
    correlation = correlation / (np.arange(envelope.size, 0, -1)) / (correlation[0] / envelope.size + 1e-12)
    best, best_score = low, -np.inf
    for bpm in np.arange(low, high, 0.5):
        beat = 60 / bpm * 100
        lags = np.array([0.5, 1, 2, 4, 8]) * beat
        weights = np.array([0.5, 1, 1, 1, 0.5])
        inside = lags < envelope.size - 2
        score = (weights[inside] * _interpolate(correlation, lags[inside])).sum() / weights[inside].sum()
        off = _interpolate(correlation, np.array([0.375, 0.625, 1.375, 2.6]) * beat).mean()
        if score - 0.5 * off > best_score:
            best, best_score = float(bpm), float(score - 0.5 * off)
    return best


def _interpolate(values: Array, at: Array) -> Array:
    return np.interp(at, np.arange(values.size), values)


def has_drums(wave: Array) -> bool:
    """Broadband bursts: energy above 12.5 kHz, where no pitched instrument has a partial, comes and goes."""
    power = _spectrogram(wave, _FFT, _HOP)
    frequency = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    high = power[:, frequency > 12_500].sum(1)
    burst, floor = np.percentile(high, 90), np.percentile(high, 25)
    return bool(burst > 2e-4 * power.sum(1).mean() and burst > 8 * floor)


def _mel(spectrum: Array, bands: int) -> Array:
    """Triangular mel bands of a magnitude spectrogram [frames, bins] -> [frames, bands]."""
    bins = spectrum.shape[1]
    frequency = np.linspace(0, SAMPLE_RATE / 2, bins)
    edges = 700 * (np.exp(np.linspace(0, np.log(1 + SAMPLE_RATE / 2 / 700), bands + 2)) - 1)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.clip(np.minimum((frequency - left) / (centre - left), (right - frequency) / (right - centre)), 0, None)
    banded: Array = spectrum @ (filters / (filters.sum(1, keepdims=True) + 1e-9)).T
    return banded


def _chroma(frequency: Array, power: Array, low: float, high: float) -> Array:
    """Share of the magnitude near each pitch class between two frequencies: float [12], C first."""
    inside = (frequency > low) & (frequency < high)
    pitch = 12 * np.log2(frequency[inside] / G4_HZ) + 7
    chroma = np.zeros(12)
    near = np.abs(pitch - np.round(pitch)) < 0.35
    np.add.at(chroma, np.round(pitch).astype(int) % 12, np.sqrt(power[inside]) * near)
    share: Array = chroma / (chroma.sum() + 1e-9)
    return share


def mel_db(wave: Array) -> Array:
    """80-band mel power in dB, 64 ms windows every 20 ms: float [frames, 80]."""
    decibels: Array = 20 * np.log10(_mel(np.sqrt(_spectrogram(wave, 2048, 640)), 80) + 1e-6)
    return decibels


def key_features(wave: Array) -> Array:
    """Chroma of the harmony register and of the bass, tuned to G4 = 400 Hz, and of the opening second: float [36]."""
    power = _spectrogram(wave, 8192, 2048).mean(0)
    frequency = np.fft.rfftfreq(8192, 1 / SAMPLE_RATE)
    opening = _spectrogram(wave[:SAMPLE_RATE], 8192, 2048).mean(0)  # progressions start on the tonic
    parts = [
        _chroma(frequency, power, 380, 1500),
        _chroma(frequency, power, 70, 170),
        _chroma(frequency, opening, 380, 1500),
    ]
    return np.concatenate(parts)


def family_features(wave: Array) -> Array:
    """Shape of the pitched spectrum and of its attack and decay: float [84]."""
    magnitude = np.sqrt(_spectrogram(wave, 2048, 640))
    bands = np.log(_mel(magnitude, 40) + 1e-3 * magnitude.max() + 1e-9)
    bands -= bands.mean()
    change = np.diff(bands, axis=0)
    low = np.percentile(bands, 30, axis=0)
    loudness = np.log(magnitude.sum(1) + 1e-6)
    shape = [
        loudness.std(),
        np.abs(np.diff(loudness)).mean(),
        np.maximum(change, 0).mean(),
        np.minimum(change, 0).mean(),
    ]
    return np.concatenate([low, change.std(0), shape])


def rms_db(wave: Array) -> float:
    """Root mean square level in dB of full scale."""
    return float(20 * np.log10(np.sqrt(np.mean(wave**2)) + 1e-9))


@dataclass(frozen=True, slots=True)
class Validity:
    """Is it sound at all: longest silence in seconds, share of clipped samples, highest peak."""

    longest_silence_s: float
    clipped_share: float
    peak: float

    @property
    def ok(self) -> bool:
        return self.longest_silence_s < 1.5 and self.clipped_share < 1e-3


def validity(wave: Array) -> Validity:
    """Silence is 20 ms under -60 dB; clipping is |sample| >= 0.999."""
    blocks = wave[: wave.size // 640 * 640].reshape(-1, 640)
    quiet = np.sqrt((blocks**2).mean(1)) < 1e-3
    runs = np.diff(np.flatnonzero(np.concatenate([[True], ~quiet, [True]]))) - 1
    return Validity(float(runs.max() * 0.02), float((np.abs(wave) >= 0.999).mean()), float(np.abs(wave).max()))


class RidgeClassifier:
    """One-against-all ridge regression on standardised features and their pairwise squares: closed form, no tuning."""

    def __init__(self, features: Sequence[Array], labels: Sequence[int], classes: int, ridge: float = 30.0) -> None:
        x = np.stack(features)
        self._mean, self._scale = x.mean(0), x.std(0) + 1e-6
        design = self._design(x)
        target = np.eye(classes)[np.asarray(labels)]
        gram = design.T @ design + ridge * np.eye(design.shape[1])
        self._weights = np.linalg.solve(gram, design.T @ target)

    def _design(self, x: Array) -> Array:
        z = np.clip((x - self._mean) / self._scale, -4, 4)
        return np.concatenate([z, z**2, np.ones((len(z), 1))], axis=1)

    def predict(self, features: Array) -> int:
        return int((self._design(features[None]) @ self._weights).argmax())
