"""Does the stereo model follow prompt and melody, and is each stem where it belongs? On held-out pieces.

``python -m models.tiny.training.evaluate_melody --checkpoint DIR --runs runs/tiny`` prints the tables of the card.
A clip follows its melody as far as the strongest pitch class, told as the model hears it, is the melody's at the same
time, where the melody sounds. It is told of the mix, and of the lead alone, which is known from its codes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from transformers import MusicgenMelodyForConditionalGeneration, PreTrainedTokenizerFast

from models.conditioning import chroma
from models.tiny.composer.captions import full_prompt
from models.tiny.composer.instruments import SAMPLE_RATE
from models.tiny.composer.render import render
from models.tiny.composer.score import STEMS, Piece
from models.tiny.composer.stereo import CHANNELS, tune
from models.tiny.training import analysis, arguments
from models.tiny.training.analysis import Array
from models.tiny.training.codebooks import Codebooks
from models.tiny.training.data import Example
from models.tiny.training.evaluate import Listener, chance, held_out_pieces, rates, table
from models.tiny.training.fewer_codes import FewerCodes
from models.tiny.training.melody_data import FULL_CLIP, StereoStream, null_melody

_BATCH = 12
_AUDIBLE = 1e-3  # of the loudest frame's energy: below it a melody is silent


@dataclass(frozen=True, slots=True)
class Clip:
    """Codes int64 [8, frames] and samples float64 [2, samples]."""

    codes: Tensor
    channels: Array

    @property
    def mono(self) -> Array:
        mixed: Array = self.channels.mean(0)
        return mixed


class StereoPlayer:
    """The checkpoint: its codec, and generation by transformers' own generate."""

    def __init__(self, checkpoint: Path, runs: Path) -> None:
        self._model = MusicgenMelodyForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(checkpoint)
        self._books = Codebooks.load(runs / "codebooks.npz")
        self._stream = StereoStream(self._books, FewerCodes.load(runs / "fewer_codes.npz"), 0, timed=0.0)

    @torch.inference_mode()
    def sound(self, codes: Tensor) -> Clip:
        sides = [self._model.audio_encoder.decode(codes[side::2][None, None], [None]) for side in range(CHANNELS)]
        return Clip(codes, np.stack([side.audio_values[0, 0].double().numpy() for side in sides]))

    def original(self, piece: Piece, frames: int) -> Clip:
        """A piece as the model could play it at best."""
        stems = torch.from_numpy(render(piece, frames))
        return self.sound(self._stream.place(Example(piece, stems, self._books.encode(stems)), timed=False))

    def play(self, piece: Piece, frames: int) -> Array:
        """What the listener is fitted on: the mono mix."""
        return self.original(piece, frames).mono

    def lead(self, clip: Clip) -> Array:
        """The lead of a clip alone: float64 [samples]."""
        alone = torch.zeros_like(clip.codes)
        alone[-CHANNELS:] = clip.codes[-CHANNELS:]
        return self.sound(alone).mono

    def sample(self, prompts: Sequence[str], melodies: Sequence[Tensor], frames: int, seed: int) -> list[Clip]:
        """One clip for each prompt and melody; together are those whose prompts have as many tokens: none is padded."""
        torch.manual_seed(seed)
        lengths = defaultdict(list)
        for index, prompt in enumerate(prompts):
            lengths[len(self._tokenizer(prompt)["input_ids"])].append(index)
        clips: dict[int, Clip] = {}
        for group in lengths.values():
            for first in range(0, len(group), _BATCH):
                part = group[first : first + _BATCH]
                made = self._generate([prompts[i] for i in part], torch.stack([melodies[i] for i in part]), frames)
                clips |= zip(part, map(self.sound, made), strict=True)
                print(f"{len(clips)} of {len(prompts)} clips", end="\r", flush=True)
        return [clips[index] for index in range(len(prompts))]

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[str], melodies: Tensor, frames: int) -> Tensor:
        """Codes, int64 [B, 8, frames]."""
        decode, seen = self._model.audio_encoder.decode, []

        def listen(codes: Tensor, *args: object, **kwargs: object) -> object:
            seen.append(codes[0])
            return decode(codes, *args, **kwargs)

        text = self._tokenizer(list(prompts), return_tensors="pt")
        features = one_hot(melodies, chroma.NUM_CLASSES).float()
        self._model.audio_encoder.decode = listen
        self._model.generate(**text, input_features=features, max_new_tokens=frames + 3)
        self._model.audio_encoder.decode = decode
        return torch.stack(seen, dim=2).flatten(1, 2)


def follows(heard: Array, melody: Array) -> float:
    """Share of the frames where the melody sounds in which its pitch class is the strongest one heard."""
    wanted = chroma.energies(torch.from_numpy(melody[: heard.size]).float(), SAMPLE_RATE)
    sounds = wanted.sum(0) > _AUDIBLE * wanted.sum(0).max()
    got = chroma.energies(torch.from_numpy(heard).float(), SAMPLE_RATE)
    return float((wanted.argmax(0) == got.argmax(0))[sounds].float().mean())


def stereo_figures(clips: Sequence[Clip]) -> dict[str, float]:
    """Means over clips: codes that are where they belong, correlation of the channels, loss of the mono mix in dB."""
    codes = torch.cat([clip.codes for clip in clips], dim=1).view(len(STEMS), CHANNELS, -1)
    waves = [clip.channels for clip in clips]
    return {
        "drums the same on both sides": float((codes[0, 0] == codes[0, 1]).float().mean()),
        "bass the same on both sides": float((codes[1, 0] == codes[1, 1]).float().mean()),
        "correlation of the sides": float(np.mean([np.corrcoef(*wave)[0, 1] for wave in waves])),
        "dB from the sides to the mono mix": float(
            np.mean([analysis.rms_db(clip.mono) - analysis.rms_db(clip.channels.ravel()) for clip in clips])
        ),
    }


def melody_table(player: StereoPlayer, pieces: Sequence[Piece], frames: int) -> list[str]:
    """Share of the melody's frames that are followed: by originals, by the model, without a melody, by another's."""
    songs = [tune(piece, FULL_CLIP, piece.family) for piece in pieces]
    prompts = [f"{full_prompt(p, np.random.default_rng([p.seed, 7]))}, with a melody" for p in pieces]
    given = [chroma.tune(torch.from_numpy(song), SAMPLE_RATE) for song in songs]
    clips = {
        "originals through the codec": [player.original(piece, frames) for piece in pieces],
        "with its melody": player.sample(prompts, given, frames, seed=3),
        "without a melody": player.sample(prompts, [null_melody() for _ in pieces], frames, seed=4),
    }
    unrelated = songs[1:] + songs[:1]
    rows = [(name, made, songs) for name, made in clips.items()]
    rows.insert(2, ("against an unrelated melody", clips["with its melody"], unrelated))
    lines = ["| melody | heard in the mix | heard in the lead |", "|---|---|---|"]
    for name, made, wanted in rows:
        mix = np.mean([follows(clip.mono, song) for clip, song in zip(made, wanted, strict=True)])
        lead = np.mean([follows(player.lead(clip), song) for clip, song in zip(made, wanted, strict=True)])
        lines.append(f"| {name} | {100 * mix:.0f} % | {100 * lead:.0f} % |")
    return lines


def main() -> None:
    # fit: training pieces that the classifiers are fitted on.
    paths = ["checkpoint", "runs"]
    args = arguments.parse(__doc__, paths, fit=220, prompts=60, melodies=30, seconds=10.0, threads=2)
    frames = int(args.seconds * 50)
    player = StereoPlayer(args.checkpoint, args.runs)
    held_out = [piece for piece in held_out_pieces(8 * max(args.prompts, args.melodies)) if not piece.builds]
    pieces = held_out[: args.prompts]
    prompts = [full_prompt(p, np.random.default_rng([p.seed, 7])) for p in pieces]
    clips = player.sample(prompts, [null_melody() for _ in pieces], frames, seed=1)
    originals = [player.original(piece, frames) for piece in pieces]
    listener = Listener(player, frames, args.fit)
    columns = {
        "originals through the codec (ceiling)": rates(listener, [clip.mono for clip in originals], pieces),
        "tiny-melody": rates(listener, [clip.mono for clip in clips], pieces),
        "chance": chance(pieces),
    }
    checks = [analysis.validity(side) for clip in clips for side in clip.channels]
    print(table(columns))
    print(f"valid (no silence over 1.5 s, under 0.1 % clipped): {sum(c.ok for c in checks)} of {len(checks)} channels")
    for name, made in (("originals", originals), ("tiny-melody", clips)):
        print(name, {key: round(value, 3) for key, value in stereo_figures(made).items()})
    print("\n".join(melody_table(player, [p for p in held_out if p.lead][: args.melodies], frames)))


if __name__ == "__main__":
    main()
