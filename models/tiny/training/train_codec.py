"""Train the codec's decoder and codeword embeddings on stem codes; the encoder follows in train_encoder.

``python -m models.tiny.training.train_codec --codebooks runs/tiny/codebooks.npz --out runs/tiny/codec.pt``
Seeded; started again with the same --out it goes on where it stopped.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EncodecConfig, EncodecModel

from models.tiny.composer.instruments import FRAME
from models.tiny.composer.score import STEMS
from models.tiny.training import arguments, checkpointing
from models.tiny.training.codebooks import CODEBOOK_SIZE, SUBSPACE, Codebooks
from models.tiny.training.data import PieceStream, Pool
from models.tiny.training.losses import reconstruction_loss, signal_to_noise_db

CROP = 60  # frames in a training crop
EDGE = 4  # frames at a crop's borders that lack their true context: no loss there
FIRST_PIECE = 1_000_000  # pieces of the codec's training; the decoder's start elsewhere


def codec_config(codes: int = CODEBOOK_SIZE) -> EncodecConfig:
    """The published 32 kHz geometry, narrower: 20 filters and one LSTM layer; ``codes`` in each codebook."""
    return EncodecConfig(
        sampling_rate=32_000, audio_channels=1, num_filters=20, hidden_size=len(STEMS) * SUBSPACE,
        codebook_size=codes, codebook_dim=len(STEMS) * SUBSPACE, upsampling_ratios=[8, 5, 4, 4],
        target_bandwidths=[0.2 * math.ceil(math.log2(codes))], num_lstm_layers=1, use_causal_conv=False,
        normalize=False, use_conv_shortcut=False, pad_mode="reflect", chunk_length_s=None, overlap=None,
        norm_type="weight_norm",
    )  # fmt: skip


class StemEmbedding(nn.Module):
    """Codes of the four stems to the latent: each stem's codeword in its own subspace."""

    def __init__(self, codebooks: Codebooks) -> None:
        super().__init__()
        self.tables = nn.ParameterList(nn.Parameter(book.embedding()) for book in codebooks.stems)
        self._silent = [codebooks.is_silence(q) for q in range(len(STEMS))]

    def forward(self, codes: Tensor) -> Tensor:
        """int64 [B, 4, F] -> float32 [B, 128, F]; silence stays the zero vector."""
        parts = [self.table(q)[codes[:, q]] for q in range(len(self.tables))]
        return torch.cat(parts, dim=-1).transpose(1, 2)

    def table(self, stem: int) -> Tensor:
        """float32 [codes, 32]"""
        table: Tensor = self.tables[stem].masked_fill(self._silent[stem][:, None], 0.0)
        return table


class CodecTrainer:
    """The decoder, its embeddings and their optimiser: what a resumed run needs."""

    def __init__(self, codebooks: Codebooks, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = EncodecModel(codec_config())
        self.embedding = StemEmbedding(codebooks)
        groups = [
            {"params": self.model.decoder.parameters(), "lr": 2e-3},
            {"params": self.embedding.parameters(), "lr": 4e-3},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.8, 0.98), weight_decay=0.0)
        self.base_rates = [group["lr"] for group in groups]
        self.step = 0

    def train_step(self, pool: Pool, rng: np.random.Generator, batch: int, progress: float) -> tuple[float, float]:
        """One optimiser step; returns loss and signal-to-noise ratio in dB."""
        stems, codes = pool.crops(batch, CROP, FRAME)
        keep = torch.from_numpy(rng.random((batch, len(STEMS))) > 0.12)
        target = (stems * keep[:, :, None]).sum(1)
        output = self.model.decoder(self.embedding(codes * keep[:, :, None]))[:, 0]
        inner = slice(EDGE * FRAME, (CROP - EDGE) * FRAME)
        loss = reconstruction_loss(output[:, inner], target[:, inner], log_weight=0.1 if progress > 0.6 else 0.0)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([*self.model.decoder.parameters(), *self.embedding.parameters()], 5.0)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * checkpointing.cosine(progress)
        self.optimizer.step()
        self.step += 1
        return loss.item(), signal_to_noise_db(output[:, inner].detach(), target[:, inner])

    def state(self, seconds: float) -> dict[str, object]:
        return {"model": self.model.state_dict(), "embedding": self.embedding.state_dict(),
                "optimizer": self.optimizer.state_dict(), "step": self.step, "seconds": seconds}  # fmt: skip

    def resume(self, path: Path) -> float:
        """Load the state of a stopped run; returns the seconds already spent."""
        state = checkpointing.load(path)
        if state is None:
            return 0.0
        self.model.load_state_dict(state["model"])
        self.embedding.load_state_dict(state["embedding"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        return float(state["seconds"])


def main() -> None:
    args = arguments.parse(__doc__, ["codebooks", "out"], minutes=40.0, batch=8, seed=0, threads=1)
    codebooks = Codebooks.load(args.codebooks)
    trainer = CodecTrainer(codebooks, args.seed)
    spent, budget = trainer.resume(args.out), args.minutes * 60
    rng = np.random.default_rng([args.seed, trainer.step])
    pool = Pool(PieceStream(codebooks, FIRST_PIECE + trainer.step), 160, 400, rng)
    started, losses = time.monotonic() - spent, []
    while (seconds := time.monotonic() - started) < budget:
        pool.refresh()
        losses.append(trainer.train_step(pool, rng, args.batch, seconds / budget))
        if trainer.step % 50 == 0:
            loss, snr = np.mean(losses[-50:], axis=0)
            print(f"step {trainer.step} {seconds / 60:.1f} min loss {loss:.3f} SNR {snr:.2f} dB", flush=True)
        if trainer.step % 200 == 0:
            checkpointing.save(args.out, trainer.state(seconds))
    checkpointing.save(args.out, trainer.state(budget))


if __name__ == "__main__":
    main()
