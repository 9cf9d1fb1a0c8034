"""The codec's four codebooks: one per stem, found by k-means on windows of real stems.

The four levels of the residual quantiser live in four orthogonal subspaces of the latent, so that level q describes
stem q (drums, bass, harmony, lead) and the residual search of the encoder finds each stem's code independently
of the others (the idea of source-disentangled codecs, Bie et al., "Learning Source Disentanglement in Neural Audio
Codec", 2024). For the decoder each codebook then is a simple instrument track, which a few million
parameters can learn.

Silence carries the clock: 144 codes of drums, bass and lead mean silence at one place of the bar (sixteenth note and
frame within it). All have the zero codeword, so they sound the same; but the decoder, which must know when the next
note is due, reads the time off its own silence as a player counts rests.

``python -m models.tiny.training.codebooks --out runs/tiny/codebooks.npz``
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.tiny.composer.instruments import FRAME
from models.tiny.composer.render import render
from models.tiny.composer.score import SIXTEENTHS, STEMS, draw_piece
from models.tiny.training import arguments

CODEBOOK_SIZE = 1024
SUBSPACE = 32  # latent dimensions of a stem
MARGIN = 160  # samples a window reaches into its neighbours
CLOCK_CODES = 16 * max(SIXTEENTHS)
CLOCK_STEMS = ("drums", "bass", "lead")  # the harmony is never silent
_COMPONENTS = 128
_SILENCE = 1e-4  # peak below which a frame is silence: code 0


def windows(stem: Tensor) -> Tensor:
    """Tapered windows around each frame: float32 [samples] -> [frames, 640 + 2 * MARGIN]."""
    padded = torch.nn.functional.pad(stem, (MARGIN, MARGIN))
    taper = torch.ones(FRAME + 2 * MARGIN)
    taper[:MARGIN] = torch.linspace(0, 1, MARGIN)
    taper[-MARGIN:] = torch.linspace(1, 0, MARGIN)
    return padded.unfold(0, FRAME + 2 * MARGIN, FRAME) * taper


def _features(frames: Tensor, tonal: bool) -> Tensor:
    """Windows as the k-means sees them: pre-emphasised if tonal, loudness compressed so that quiet frames count."""
    shaped = frames - 0.7 * torch.nn.functional.pad(frames, (1, 0))[:, :-1] if tonal else frames
    weighted: Tensor = shaped * shaped.norm(dim=1, keepdim=True).clamp_min(1e-3) ** -0.4
    return weighted


@dataclass(frozen=True, slots=True)
class StemCodebook:
    """Code 0 is silence; code c > 0 is the nearest centroid in a PCA space of the windows."""

    tonal: bool
    mean: Tensor  # [window]
    basis: Tensor  # [window, components]
    centroids: Tensor  # [CODEBOOK_SIZE - 1, components]

    def encode(self, stem: Tensor) -> Tensor:
        """float32 [samples] -> int64 [frames]."""
        frames = windows(stem)
        projected = (_features(frames, self.tonal) - self.mean) @ self.basis
        codes = torch.cdist(projected, self.centroids).argmin(1) + 1
        return torch.where(frames.abs().amax(1) > _SILENCE, codes, 0)

    def embedding(self) -> Tensor:
        """A first embedding for the codec: leading principal components, unit mean square, zero for silence."""
        table = torch.cat([torch.zeros(1, SUBSPACE), self.centroids[:, :SUBSPACE]])
        table = torch.where(table.abs() < 1e5, table, 0)  # codes of the clock are silence
        return table / table.pow(2).mean().sqrt()


def fit_stem(frames: Tensor, tonal: bool, generator: torch.Generator, iterations: int = 25) -> StemCodebook:
    """k-means with empty clusters re-seeded on badly served frames; frames: [n, window], silence excluded."""
    features = _features(frames, tonal)
    mean = features.mean(0)
    _, _, basis = torch.pca_lowrank(features, _COMPONENTS, niter=3)
    points = (features - mean) @ basis
    order = torch.randperm(len(points), generator=generator)
    centroids = points[order.repeat(-(-CODEBOOK_SIZE // len(order)))[: CODEBOOK_SIZE - 1]].clone()
    for _ in range(iterations):
        distance, nearest = torch.cdist(points, centroids).min(1)
        counts = torch.bincount(nearest, minlength=len(centroids))
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        centroids = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), centroids)
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            centroids[empty] = points[torch.multinomial(distance**2 + 1e-12, len(empty), True, generator=generator)]
    return StemCodebook(tonal, mean, basis, centroids)


class Codebooks:
    """The four stems' codebooks together.

    Args:
        clock: int64 [4, CLOCK_CODES], the codes that mean silence at a place of the bar; 0 for stems without.
    """

    def __init__(self, stems: list[StemCodebook], clock: Tensor) -> None:
        self.stems = stems
        self.clock = clock

    def encode(self, stems: Tensor) -> Tensor:
        """float32 [4, samples] -> int64 [4, frames]."""
        return torch.stack([book.encode(stem) for book, stem in zip(self.stems, stems, strict=True)])

    def tell_time(self, codes: Tensor, sixteenth: int) -> Tensor:
        """Silence becomes silence at its place in the bar: int64 [4, frames], frames in a sixteenth note."""
        place = torch.arange(codes.shape[1]) % (16 * sixteenth)
        tick = place // sixteenth * max(SIXTEENTHS) + place % sixteenth
        return torch.where(codes == 0, self.clock[:, tick], codes)

    def is_silence(self, stem: int) -> Tensor:
        """bool [CODEBOOK_SIZE]: the codes with the zero codeword."""
        silent = torch.zeros(CODEBOOK_SIZE, dtype=torch.bool)
        silent[self.clock[stem]] = True
        silent[0] = True
        return silent

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {f"{field}{i}": getattr(book, field).numpy() for i, book in enumerate(self.stems)
                 for field in ("mean", "basis", "centroids")}  # fmt: skip
        np.savez_compressed(path, clock=self.clock.numpy(), **parts)

    @classmethod
    def load(cls, path: Path) -> Codebooks:
        parts = np.load(path)
        names = ("mean", "basis", "centroids")
        stems = [StemCodebook(i >= 2, *(torch.from_numpy(parts[f"{name}{i}"]) for name in names)) for i in range(4)]
        return cls(stems, torch.from_numpy(parts["clock"]))


def set_clock(stems: list[StemCodebook], pieces: int) -> Codebooks:
    """Give the least used codes of the clock's stems to the clock; their sounds go to the next nearest codeword."""
    counts = torch.zeros(len(STEMS), CODEBOOK_SIZE, dtype=torch.long)
    for number in range(pieces):
        for q, stem in enumerate(torch.from_numpy(render(draw_piece(number), 300))):
            counts[q] += torch.bincount(stems[q].encode(stem), minlength=CODEBOOK_SIZE)
    clock = torch.zeros(len(STEMS), CLOCK_CODES, dtype=torch.long)
    for q, name in enumerate(STEMS):
        if name in CLOCK_STEMS:
            clock[q] = counts[q, 1:].argsort()[:CLOCK_CODES] + 1
            stems[q].centroids[clock[q] - 1] = 1e6  # nearest to nothing
    return Codebooks(stems, clock)


def fit(pieces: int, frames: int, seed: int, per_stem: int = 120_000) -> Codebooks:
    """Fit all stems on training pieces (held-out combinations are skipped)."""
    generator = torch.Generator().manual_seed(seed)
    collected: list[list[Tensor]] = [[] for _ in STEMS]
    for number in range(pieces):
        piece = draw_piece(number)
        if piece.is_held_out:
            continue
        for index, stem in enumerate(torch.from_numpy(render(piece, frames))):
            part = windows(stem)
            part = part[part.abs().amax(1) > _SILENCE]
            collected[index].append(part[torch.randperm(len(part), generator=generator)[: frames // 2]])
    books = []
    for index, name in enumerate(STEMS):
        points = torch.cat(collected[index])
        points = points[torch.randperm(len(points), generator=generator)[:per_stem]]
        books.append(fit_stem(points, index >= 2, generator))
        print(f"{name}: {len(points)} frames, {CODEBOOK_SIZE} codes", flush=True)
    return set_clock(books, min(pieces, 150))


def main() -> None:
    args = arguments.parse(__doc__, ["out"], pieces=700, seed=0)
    fit(args.pieces, 600, args.seed).save(args.out)


if __name__ == "__main__":
    main()
