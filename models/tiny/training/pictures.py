"""Spectrograms of what the model plays for a few prompts, for the model card and the README.

``python -m models.tiny.training.pictures --checkpoint models/tiny/checkpoint --out models/tiny``; needs matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile as sf

from models.engine.engine import Engine
from models.engine.loader import load_model
from models.engine_config import EngineConfig
from models.tiny.composer.instruments import SAMPLE_RATE
from models.tiny.training.analysis import Array
from models.types import GenerationRequest

PROMPTS = {
    "techno": "energetic and fast synthwave in A minor, techno drums, driving bass, a catchy melody, loud",
    "piano": "calm and slow piano ballad in C major, no drums, gentle",
    "strings": "cinematic strings in D minor, slow, no percussion, powerful",
    "bells": "lullaby with bells in G major, relaxed tempo, drumless, quiet",
    "guitar": "folk guitar, happy, in F major, 107 bpm, rock beat, bass line",
    "gospel": "gospel organ in B flat major, upbeat, house beat, lead melody, loud",
}


def play(engine: Engine, name: str, prompt: str, seconds: float, seed: int) -> Array:
    """One clip through the serving engine: float [samples]."""
    request = GenerationRequest(name, prompt, seconds, seed)
    pieces = [np.frombuffer(chunk.pcm, dtype="<f4") for chunk in engine.generate(request)]
    return np.concatenate(pieces).astype(np.float64)


def draw(clips: dict[str, Array], path: Path, columns: int) -> None:
    """A grid of spectrograms up to 8 kHz, 80 dB deep, the prompt above each."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = -(-len(clips) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(7 * columns, 2.6 * rows), squeeze=False, layout="constrained")
    for axis, (name, wave) in zip(axes.flat, clips.items(), strict=False):
        axis.specgram(wave + 1e-9, NFFT=2048, Fs=SAMPLE_RATE, noverlap=1536, vmin=-120, vmax=-30, cmap="magma")
        axis.set_ylim(0, 8000)
        axis.set_title(PROMPTS.get(name, name), fontsize=9, loc="left")
        axis.set_ylabel("Hz", fontsize=8)
        axis.tick_params(labelsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("seconds", fontsize=8)
    figure.savefig(path, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wav", action="store_true", help="keep the clips beside the picture")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config = EngineConfig(max_rows=2)
    engine = Engine(load_model(args.checkpoint, config), config)
    clips = {name: play(engine, name, prompt, args.seconds, args.seed) for name, prompt in PROMPTS.items()}
    draw(clips, args.out / "spectrograms.png", columns=2)
    if args.wav:
        for name, wave in clips.items():
            sf.write(args.out / f"{name}.wav", wave, SAMPLE_RATE)


if __name__ == "__main__":
    main()
