"""The tune of a sound, as MusicGen's melody models hear it: the strongest of twelve pitch classes, 7.8 times a second.

    sound ─► spectrogram, 16,384 samples every 4,096 ─► energy by pitch class ─► the strongest, C = 0 … B = 11

Same numbers as transformers' ``MusicgenMelodyFeatureExtractor`` (so as audiocraft's ``ChromaExtractor``) makes of the
whole mix; audiocraft takes drums and bass out of it before, with Demucs, which is not done here. The filters are D.
Ellis's, "Chroma feature analysis and synthesis" (Columbia University, 2007), as librosa's ``filters.chroma`` has them
with its default settings: Gaussian bumps an octave's twelfth apart, weighted towards the middle octaves.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import CHROMA_FRAMES, NUM_CHROMA

NUM_CLASSES = NUM_CHROMA
FRAMES = CHROMA_FRAMES
"""Of every melody a model hears: 30 s at 32 kHz; a shorter one is repeated."""

_WINDOW, _HOP = 2**14, 2**12  # samples
_LOWEST_A_HZ = 440.0 / 16
_SEMITONES_A_TO_C = 3
_CENTRE, _HALF_WIDTH = 5.0, 2.0  # octaves above the lowest A that count most, and how far around


@cache
def filters(sample_rate: int, window: int = _WINDOW) -> Tensor:
    """How much of a frequency belongs to a pitch class, float32 [12, window / 2 + 1].

    Args:
        sample_rate: Hz.
        window: samples of the spectrogram's windows.
    """
    bins = window // 2 + 1
    frequencies = np.arange(1, bins + 1) * (sample_rate / window)  # one more than asked for: widths are differences
    semitones = NUM_CLASSES * np.log2(frequencies / _LOWEST_A_HZ)
    semitones = np.concatenate([[semitones[0] - 1.5 * NUM_CLASSES], semitones])  # 0 Hz is nowhere: far below the others
    widths = np.maximum(np.diff(semitones), 1.0)
    semitones = semitones[:bins]
    classes = np.arange(NUM_CLASSES)[:, None]
    half = NUM_CLASSES // 2
    distances = (semitones - classes + half) % NUM_CLASSES - half
    bumps = np.exp(-2.0 * (distances / widths) ** 2)
    bumps /= np.linalg.norm(bumps, axis=0)
    bumps *= np.exp(-0.5 * ((semitones / NUM_CLASSES - _CENTRE) / _HALF_WIDTH) ** 2)
    return torch.from_numpy(np.roll(bumps, -_SEMITONES_A_TO_C, axis=0)).float().contiguous()


def energies(samples: Tensor, sample_rate: int) -> Tensor:
    """Energy by pitch class, float32 [12, frames]; there is a frame every 4,096 samples, the first at sample 0.

    Args:
        samples: float32 [N]; fewer than a window are put in the middle of silence.
    """
    missing = max(0, _WINDOW - len(samples))
    samples = F.pad(samples, (missing // 2, missing - missing // 2))
    shape = torch.hann_window(_WINDOW)
    spectrum = torch.stft(samples, _WINDOW, _HOP, window=shape, center=True, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return filters(sample_rate) @ (power / shape.square().sum())


def tune(samples: Tensor, sample_rate: int) -> Tensor:
    """The strongest pitch class of each frame, int64 [235]: as much of a longer sound, a shorter one again and again.

    Where nothing sounds it is class 0.
    """
    heard = energies(samples, sample_rate).argmax(0)  # all energies of a frame by their largest: the same argmax
    return heard.repeat(-(-FRAMES // len(heard)))[:FRAMES]
