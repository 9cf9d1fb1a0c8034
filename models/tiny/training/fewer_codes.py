"""A smaller alphabet for the stereo and melody model: half of each codebook, chosen so that little is heard of it.

Eight codebooks of 1,024 codes would take two thirds of the file in embeddings and heads alone. So codes are taken out
one after another, each time the one whose loss costs least: how often it sounds times the squared distance to its
nearest neighbour, which sounds in its place from then on. The codec stays as it was trained.

``python -m models.tiny.training.fewer_codes --codebooks runs/tiny/codebooks.npz --out runs/tiny/fewer_codes.npz``
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.tiny.composer.score import STEMS
from models.tiny.training import arguments
from models.tiny.training.codebooks import CODEBOOK_SIZE, Codebooks
from models.tiny.training.data import PieceStream

FEWER = 512
FIRST_PIECE = 40_000_000


@dataclass(frozen=True, slots=True)
class FewerCodes:
    """Old codes and new ones of the four stems.

    Attributes:
        kept: int64 [4, FEWER], the old code of each new one, in rising order: silence stays code 0.
        new: int64 [4, CODEBOOK_SIZE], the new code that each old one becomes.
    """

    kept: Tensor
    new: Tensor

    def translate(self, codes: Tensor) -> Tensor:
        """Old codes to new ones, int64 [4, frames]."""
        return self.new.gather(1, codes)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, kept=self.kept.numpy(), new=self.new.numpy())

    @classmethod
    def load(cls, path: Path) -> FewerCodes:
        parts = np.load(path)
        return cls(torch.from_numpy(parts["kept"]), torch.from_numpy(parts["new"]))


def nearest_survivors(points: Tensor, counts: Tensor, free: Tensor, survivors: int) -> Tensor:
    """Which code sounds for each code when only ``survivors`` of the free ones are left.

    Args:
        points: float32 [n, dimensions]; counts: how often each sounds, [n]; free: bool [n], may go or take over.

    Returns:
        int64 [n]; a code that survives, or is not free, stands for itself.
    """
    distance = torch.cdist(points, points).square()
    distance.fill_diagonal_(torch.inf)
    distance[~free], distance[:, ~free] = torch.inf, torch.inf
    weights, heir, alive = counts + 0.01, torch.arange(len(points)), free.clone()
    nearest, place = distance.min(1)
    for _ in range(int(free.sum()) - survivors):
        gone = int(torch.where(alive, weights * nearest, torch.inf).argmin())
        taker = int(place[gone])
        weights[taker] += weights[gone]
        heir[heir == gone] = taker
        alive[gone] = False
        distance[:, gone] = torch.inf
        orphans = place == gone
        nearest[orphans], place[orphans] = distance[orphans].min(1)
    return heir


def choose(codebooks: Codebooks, pieces: int, frames: int) -> FewerCodes:
    """Count the codes of training pieces and halve each codebook; silence and its clock are never given up."""
    stream, counts = PieceStream(codebooks, FIRST_PIECE), torch.zeros(len(STEMS), CODEBOOK_SIZE)
    for _ in range(pieces):
        for stem, codes in enumerate(stream.next(frames).codes):
            counts[stem] += torch.bincount(codes, minlength=CODEBOOK_SIZE)
    kept, new = [], []
    for stem, book in enumerate(codebooks.stems):
        silent = codebooks.is_silence(stem)
        points = torch.cat([torch.zeros(1, book.centroids.shape[1]), book.centroids])
        heir = nearest_survivors(points, counts[stem], ~silent, FEWER - int(silent.sum()))
        survivors = torch.tensor(sorted(set(heir.tolist())))
        kept.append(survivors)
        new.append(torch.searchsorted(survivors, heir))
    return FewerCodes(torch.stack(kept), torch.stack(new))


def main() -> None:
    args = arguments.parse(__doc__, ["codebooks", "out"], pieces=150, frames=800, threads=1)
    choose(Codebooks.load(args.codebooks), args.pieces, args.frames).save(args.out)


if __name__ == "__main__":
    main()
