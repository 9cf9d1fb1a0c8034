"""How good is the codec? Held-out originals against what comes back, two ways.

``stems``: from the codes of the separate stems, as the decoder was trained on: the best that generation can sound.
``round trip``: encoder and residual quantiser on the mix alone, as any other audio would go through.

``python -m models.tiny.training.evaluate_codec --checkpoint models/tiny/checkpoint --codebooks codebooks.npz``
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration

from models.tiny.composer.render import render
from models.tiny.composer.score import STEMS
from models.tiny.training import arguments
from models.tiny.training.analysis import Array, mel_db
from models.tiny.training.codebooks import CODEBOOK_SIZE, Codebooks
from models.tiny.training.evaluate import held_out_pieces


def si_sdr_db(output: Array, target: Array) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019)."""
    scaled = target * (output @ target) / (target @ target)
    return float(10 * np.log10((scaled @ scaled) / ((output - scaled) @ (output - scaled) + 1e-12)))


def mel_distance_db(output: Array, target: Array) -> float:
    """Mean absolute difference of 80-band mel spectra in dB, floor 60 dB under the loudest band of the target."""
    wanted = mel_db(target)
    floor = wanted.max() - 60
    return float(np.abs(np.maximum(mel_db(output), floor) - np.maximum(wanted, floor)).mean())


@torch.inference_mode()
def measure(checkpoint: Path, codebooks: Path, pieces: int, frames: int) -> dict[str, dict[str, float]]:
    """Means over held-out pieces for both ways, and the share of each codebook in use."""
    codec = MusicgenForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).audio_encoder.eval()
    books = Codebooks.load(codebooks)
    results: dict[str, list[tuple[float, float]]] = {"stems": [], "round trip": []}
    used: list[Tensor] = []
    agreement = []
    for piece in held_out_pieces(pieces):
        stems = torch.from_numpy(render(piece, frames))
        mix = stems.sum(0)
        codes = books.encode(stems)
        found = codec.encode(mix[None, None]).audio_codes[0, 0]
        used.append(codes)
        agreement.append((found[:, : codes.shape[1]] == codes).float().mean(1))
        for name, part in (("stems", codes), ("round trip", found)):
            audio = codec.decode(part[None, None], [None]).audio_values[0, 0, : mix.numel()]
            got, want = audio.double().numpy(), mix.double().numpy()
            results[name].append((si_sdr_db(got, want), mel_distance_db(got, want)))
    report = {
        name: {"SI-SDR dB": float(np.mean(v, 0)[0]), "mel distance dB": float(np.mean(v, 0)[1])}
        for name, v in results.items()
    }
    everything = torch.cat(used, 1)
    report["codes in use"] = {
        name: int((torch.bincount(everything[q]) > 0).sum()) / CODEBOOK_SIZE for q, name in enumerate(STEMS)
    }
    report["codes found by the encoder"] = dict(zip(STEMS, torch.stack(agreement).mean(0).tolist(), strict=True))
    return report


def main() -> None:
    args = arguments.parse(__doc__, ["checkpoint", "codebooks"], pieces=60, seconds=10.0, threads=2)
    report = measure(args.checkpoint, args.codebooks, args.pieces, int(args.seconds * 50))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
