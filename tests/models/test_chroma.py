"""The tune that is heard is transformers' own, number by number, whatever the sound."""

from __future__ import annotations

import importlib.util
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.audio_utils import chroma_filter_bank, spectrogram, window_function
from transformers.models import musicgen_melody

from models.conditioning.chroma import FRAMES, energies, filters, tune

RATE = 32_000


def notes(*classes: int, seconds: float = 0.8, octave: int = 4) -> Tensor:
    """Each pitch class in turn, C = 0, with two overtones and a little noise."""
    time_s = torch.arange(int(seconds * RATE)) / RATE
    pitches = [440.0 * 2 ** ((each - 9) / 12 + octave - 4) for each in classes]
    sound = [sum(torch.sin(2 * math.pi * n * hz * time_s) / n for n in (1, 2, 3)) for hz in pitches]
    noise = torch.randn(len(time_s) * len(classes), generator=torch.Generator().manual_seed(0))
    return 0.2 * torch.cat([torch.as_tensor(each) for each in sound]) + 0.01 * noise


class Spectrogram:
    """What transformers asks of torchaudio, which is not installed: by transformers' own numpy spectrogram."""

    def __call__(self, waveform: Tensor) -> Tensor:
        window = window_function(16_384, "hann")
        power = spectrogram(waveform.double().numpy()[0], window, 16_384, 4096, power=2.0, center=True)
        return torch.from_numpy(power / np.square(window).sum()).float()[None]


@cache
def extractor() -> Any:
    """transformers hides the class where torchaudio is missing, so it is read from its file."""
    name = "feature_extraction_musicgen_melody"
    file = Path(musicgen_melody.__path__[0]) / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{musicgen_melody.__name__}._{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = object.__new__(module.MusicgenMelodyFeatureExtractor)
    made.n_fft = 16_384
    bank = chroma_filter_bank(sampling_rate=RATE, num_frequency_bins=16_384, tuning=0, num_chroma=12)
    made.chroma_filters = torch.from_numpy(bank).float()
    made.spectrogram = Spectrogram()
    return made


@pytest.mark.parametrize("rate", [RATE, 16_000, 400])
def test_filters_are_theirs(rate: int) -> None:
    wanted = chroma_filter_bank(sampling_rate=rate, num_frequency_bins=16_384, tuning=0, num_chroma=12)
    np.testing.assert_allclose(filters(rate).numpy(), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "sound",
    [
        notes(0, 4, 7, 11, 2),
        notes(9, 1, octave=2),
        notes(5, seconds=0.3),  # fewer samples than a window
        notes(5, seconds=0.30003),  # an odd number of them
        notes(3, seconds=1 / RATE),
        torch.zeros(50_000),
        torch.randn(100_000, generator=torch.Generator().manual_seed(1)),
    ],
    ids=["tune", "low", "short", "odd", "one sample", "silence", "noise"],
)
def test_the_tune_is_theirs(sound: Tensor) -> None:
    one_hot = extractor()._torch_extract_fbank_features(sound[None])[0]  # [frames, 12]
    wanted = one_hot.repeat(FRAMES, 1)[:FRAMES]
    heard = torch.nn.functional.one_hot(tune(sound, RATE), 12)
    np.testing.assert_array_equal(heard.numpy(), wanted.numpy())


def test_energies_are_theirs() -> None:
    sound = notes(0, 4, 7)
    power = Spectrogram()(sound[None])[0]
    wanted = extractor().chroma_filters @ power
    np.testing.assert_allclose(energies(sound, RATE).numpy(), wanted.numpy(), rtol=1e-3, atol=1e-5)


def test_a_scale_is_heard_note_by_note() -> None:
    """Thirty seconds make 235 frames; in the middle of each note it is that note."""
    scale = [0, 2, 4, 5, 7, 9, 11, 0, 1, 3]
    heard = tune(notes(*scale, seconds=3.0), RATE)
    assert len(heard) == FRAMES
    middles = [round((index + 0.5) * 3.0 * RATE / 4096) for index in range(len(scale))]
    assert [int(heard[each]) for each in middles] == scale


def test_longer_sound_is_cut_and_shorter_repeated() -> None:
    sound = notes(0, 4, 7)
    once = 1 + len(sound) // 4096
    heard = tune(sound, RATE)
    np.testing.assert_array_equal(heard[once : 2 * once].numpy(), heard[:once].numpy())
    assert len(tune(notes(0, seconds=33.0), RATE)) == FRAMES
