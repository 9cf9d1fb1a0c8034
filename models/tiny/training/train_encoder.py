"""Train the codec's encoder to find the stems' codes in a mix, against the finished codewords of train_codec.

The loss is the cross-entropy of the residual quantiser's own nearest-codeword search, one term per stem.

``python -m models.tiny.training.train_encoder --codebooks runs/tiny/codebooks.npz --codec runs/tiny/codec.pt
--out runs/tiny/encoder.pt --minutes 30``; seeded and resumable like the others.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import EncodecModel

from models.tiny.composer.instruments import FRAME
from models.tiny.composer.score import STEMS
from models.tiny.training import arguments, checkpointing
from models.tiny.training.codebooks import SUBSPACE, Codebooks
from models.tiny.training.data import PieceStream, Pool
from models.tiny.training.train_codec import CROP, EDGE, StemEmbedding, codec_config

FIRST_PIECE = 5_000_000


class EncoderTrainer:
    """The encoder, the frozen codewords and the optimiser."""

    def __init__(self, codebooks: Codebooks, codec: Path, seed: int) -> None:
        torch.manual_seed(seed)
        saved = checkpointing.load_required(codec)
        self.encoder = EncodecModel(codec_config()).encoder
        embedding = StemEmbedding(codebooks)
        embedding.load_state_dict(saved["embedding"])
        self.tables = [embedding.table(q).detach() for q in range(len(STEMS))]
        self.silent = [codebooks.is_silence(q).index_fill(0, torch.tensor(0), False) for q in range(len(STEMS))]
        self.optimizer = torch.optim.AdamW(self.encoder.parameters(), lr=2e-3, betas=(0.8, 0.98), weight_decay=0.0)
        self.step = 0

    def losses(self, latent: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy and top-1 accuracy of each stem: latent [B, 128, F], codes [B, 4, F] -> [4], [4]."""
        losses, hits = [], []
        for q, table in enumerate(self.tables):
            part = latent[:, q * SUBSPACE : (q + 1) * SUBSPACE].transpose(1, 2).reshape(-1, SUBSPACE)
            logits = part @ table.T - 0.5 * table.pow(2).sum(1)  # ranks codewords as the Euclidean distance does
            logits = logits.masked_fill(self.silent[q], -torch.inf)  # of all silences the search finds code 0
            target = codes[:, q].reshape(-1)
            losses.append(cross_entropy(logits, target))
            hits.append((logits.argmax(1) == target).float().mean())
        return torch.stack(losses), torch.stack(hits)

    def train_step(self, pool: Pool, rng: np.random.Generator, batch: int, progress: float) -> tuple[float, Tensor]:
        """One step on crops with some stems left out; returns the loss and the accuracy of each stem."""
        stems, codes = pool.crops(batch, CROP, FRAME)
        keep = torch.from_numpy(rng.random((batch, len(STEMS))) > 0.1)
        latent = self.encoder((stems * keep[:, :, None]).sum(1, keepdim=True))
        losses, hits = self.losses(latent[:, :, EDGE:-EDGE], (codes * keep[:, :, None])[:, :, EDGE:-EDGE])
        self.optimizer.zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 5.0)
        self.optimizer.param_groups[0]["lr"] = 2e-3 * checkpointing.cosine(progress)
        self.optimizer.step()
        self.step += 1
        return losses.mean().item(), hits


def main() -> None:
    args = arguments.parse(__doc__, ["codebooks", "codec", "out"], minutes=12.0, batch=8, seed=0, threads=1)
    codebooks = Codebooks.load(args.codebooks)
    trainer = EncoderTrainer(codebooks, args.codec, args.seed)
    saved, spent, budget = checkpointing.load(args.out), 0.0, args.minutes * 60
    if saved is not None:
        trainer.encoder.load_state_dict(saved["model"])
        trainer.optimizer.load_state_dict(saved["optimizer"])
        trainer.step, spent = saved["step"], saved["seconds"]
    rng = np.random.default_rng([args.seed, trainer.step])
    pool = Pool(PieceStream(codebooks, FIRST_PIECE + trainer.step), 160, 400, rng)
    started = time.monotonic() - spent
    while (seconds := time.monotonic() - started) < budget or trainer.step == 0:
        pool.refresh()
        loss, hits = trainer.train_step(pool, rng, args.batch, seconds / budget)
        if trainer.step % 50 == 0:
            accuracy = " ".join(f"{name} {hit:.2f}" for name, hit in zip(STEMS, hits.tolist(), strict=True))
            print(f"step {trainer.step} {seconds / 60:.1f} min loss {loss:.3f} accuracy {accuracy}", flush=True)
        if trainer.step % 200 == 0:
            _save(args.out, trainer, seconds)
    _save(args.out, trainer, budget)


def _save(path: Path, trainer: EncoderTrainer, seconds: float) -> None:
    state = {"model": trainer.encoder.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    checkpointing.save(path, {**state, "step": trainer.step, "seconds": seconds})


if __name__ == "__main__":
    main()
