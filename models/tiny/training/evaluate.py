"""Does the model follow its prompt? Held-out prompts, signal analysis, against chance and the unconditioned model.

``python -m models.tiny.training.evaluate --checkpoint models/tiny/checkpoint --codebooks runs/tiny/codebooks.npz``
Prints the table of the model card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from transformers import MusicgenForConditionalGeneration, PreTrainedTokenizerFast

from models.tiny.composer.captions import full_prompt
from models.tiny.composer.instruments import FAMILIES
from models.tiny.composer.render import render
from models.tiny.composer.score import SIXTEENTHS, Piece, draw_piece
from models.tiny.composer.theory import KEYS
from models.tiny.training import analysis, arguments
from models.tiny.training.analysis import Array, RidgeClassifier
from models.tiny.training.codebooks import Codebooks

_FIT_PIECES, _HELD_OUT_PIECES = 20_000_000, 30_000_000
# What a clip is judged by, in the order of the table.
ATTRIBUTES = ("drums", "tempo within 8 %", "timbre family", "key", "mode", "dynamics")


class Player(Protocol):
    """Whoever can play a piece as well as the model could at best: float64 [samples], mono."""

    def play(self, piece: Piece, frames: int) -> Array: ...


class Listener:
    """The analysis with its two fitted classifiers and its loudness threshold.

    They are fitted on training pieces that went through the codec, as everything that is judged has.
    """

    def __init__(self, codec: Player, frames: int, pieces: int) -> None:
        fitted = _pieces(_FIT_PIECES, pieces, held_out=False)
        waves = [codec.play(piece, frames) for piece in fitted]
        keys = [KEYS.index(p.key) for p in fitted]
        self._key = RidgeClassifier([analysis.key_features(w) for w in waves], keys, len(KEYS))
        families = [FAMILIES.index(p.family) for p in fitted]
        self._family = RidgeClassifier([analysis.family_features(w) for w in waves], families, len(FAMILIES))
        self._loud_db = _threshold([(analysis.rms_db(w), p.loud) for w, p in zip(waves, fitted, strict=True)])

    def verdict(self, wave: Array, piece: Piece) -> dict[str, bool]:
        """For each attribute, does the clip have what the piece's prompt asked for?"""
        key = KEYS[self._key.predict(analysis.key_features(wave))]
        return {
            "drums": analysis.has_drums(wave) == (piece.drums != "none"),
            "tempo within 8 %": abs(analysis.tempo_bpm(wave) / piece.bpm - 1) < 0.08,
            "timbre family": FAMILIES[self._family.predict(analysis.family_features(wave))] == piece.family,
            "key": key == piece.key,
            "mode": key.mode == piece.key.mode,
            "dynamics": (analysis.rms_db(wave) > self._loud_db) == piece.loud,
        }


def _threshold(levels: Sequence[tuple[float, bool]]) -> float:
    """The level in dB that parts loud from soft with the fewest errors."""
    ordered = sorted(levels)
    errors = [
        sum(loud for _, loud in ordered[:i]) + sum(not loud for _, loud in ordered[i:]) for i in range(len(ordered))
    ]
    return ordered[int(np.argmin(errors))][0]


def _pieces(first: int, count: int, held_out: bool) -> list[Piece]:
    found: list[Piece] = []
    while len(found) < count:
        piece = draw_piece(first)
        first += 1
        if piece.is_held_out == held_out:
            found.append(piece)
    return found


def held_out_pieces(count: int) -> list[Piece]:
    """Pieces whose combination of attributes no training ever saw."""
    return _pieces(_HELD_OUT_PIECES, count, held_out=True)


class Codec:
    """The checkpoint's codec, fed with the codes of a piece's stems."""

    def __init__(self, model: MusicgenForConditionalGeneration, codebooks: Path) -> None:
        self._codec = model.audio_encoder
        self._codebooks = Codebooks.load(codebooks)

    @torch.inference_mode()
    def play(self, piece: Piece, frames: int) -> Array:
        """A piece as the model could play it at best: float64 [samples]."""
        codes = self._codebooks.encode(torch.from_numpy(render(piece, frames)))
        return np.asarray(self._codec.decode(codes[None, None], [None]).audio_values[0, 0].double().numpy())


def original(piece: Piece, frames: int) -> Array:
    """The composer's own rendering, mixed: float64 [samples]."""
    return np.asarray(render(piece, frames).sum(0), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Sampler:
    """Batched generation with transformers' own generate; the serving engine is measured elsewhere."""

    model: MusicgenForConditionalGeneration
    tokenizer: PreTrainedTokenizerFast

    @classmethod
    def load(cls, path: Path) -> Sampler:
        model = MusicgenForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
        return cls(model, PreTrainedTokenizerFast.from_pretrained(path))

    @torch.inference_mode()
    def sample(self, prompts: Sequence[str], frames: int, seed: int, batch: int = 20) -> list[Array]:
        """One clip per prompt; an empty prompt is the unconditioned model."""
        torch.manual_seed(seed)
        clips: list[Array] = []
        for start in range(0, len(prompts), batch):
            part = prompts[start : start + batch]
            inputs = self._inputs(part)
            options = {"do_sample": True, "max_new_tokens": frames + 3, "guidance_scale": 3.0 if part[0] else 1.0}
            clips += [clip.double().numpy()[0] for clip in self.model.generate(**inputs, **options)]
            print(f"{len(clips)} of {len(prompts)} clips", end="\r", flush=True)
        return clips

    def _inputs(self, prompts: Sequence[str]) -> dict[str, object]:
        if prompts[0]:
            return dict(self.tokenizer(list(prompts), padding=True, return_tensors="pt"))
        null = self.model.get_unconditional_inputs(num_samples=len(prompts))
        return {"encoder_outputs": null.encoder_outputs, "attention_mask": null.attention_mask}


def rates(listener: Listener, clips: Sequence[Array], pieces: Sequence[Piece]) -> dict[str, float]:
    """Share of clips that have what was asked for, per attribute."""
    verdicts = [listener.verdict(clip, piece) for clip, piece in zip(clips, pieces, strict=True)]
    return {name: float(np.mean([v[name] for v in verdicts])) for name in ATTRIBUTES}


def chance(pieces: Sequence[Piece]) -> dict[str, float]:
    """What a blind guess gets: the best constant answer for two-way attributes, one over the classes for the others."""

    def constant(values: Sequence[bool]) -> float:
        return max(float(np.mean(values)), 1 - float(np.mean(values)))

    return {
        "drums": constant([p.drums != "none" for p in pieces]),
        "tempo within 8 %": 1 / len(SIXTEENTHS),
        "timbre family": 1 / len(FAMILIES),
        "key": 1 / len(KEYS),
        "mode": constant([p.key.mode == "major" for p in pieces]),
        "dynamics": constant([p.loud for p in pieces]),
    }


def table(columns: dict[str, dict[str, float]]) -> str:
    """A Markdown table, attributes down, columns across, in percent."""
    lines = ["| attribute | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in ATTRIBUTES:
        cells = " | ".join(f"{100 * column[name]:.0f} %" for column in columns.values())
        lines += [f"| {name} | {cells} |"]
    return "\n".join(lines)


def main() -> None:
    # fit: training pieces that the classifiers are fitted on.
    paths = ["checkpoint", "codebooks"]
    args = arguments.parse(__doc__, paths, fit=220, prompts=120, seconds=10.0, unconditioned=40, threads=2)
    frames = int(args.seconds * 50)
    pieces = [piece for piece in held_out_pieces(args.prompts * 2) if not piece.builds][: args.prompts]
    prompts = [full_prompt(p, np.random.default_rng([p.seed, 7])) for p in pieces]
    sampler = Sampler.load(args.checkpoint)
    codec = Codec(sampler.model, args.codebooks)
    listener = Listener(codec, frames, args.fit)
    clips = sampler.sample(prompts, frames, seed=1)
    free = sampler.sample([""] * args.unconditioned, frames, seed=2)
    columns = {
        "originals through the codec (ceiling)": rates(listener, [codec.play(p, frames) for p in pieces], pieces),
        "tiny": rates(listener, clips, pieces),
        "unconditioned": rates(listener, [free[i % len(free)] for i in range(len(pieces))], pieces),
        "chance": chance(pieces),
    }
    checks = [analysis.validity(clip) for clip in clips]
    print(table(columns))
    print(f"valid (no silence over 1.5 s, under 0.1 % clipped): {sum(c.ok for c in checks)} of {len(checks)}; "
          f"highest peak {max(c.peak for c in checks):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
