"""Teach the text encoder what captions say, before the decoder learns to listen to it.

Left to the decoder's loss alone, a new text encoder is ignored for long: only the first notes of a piece are news that
a caption could tell, a few nats in thousands of codes. So the encoder first learns to tell every attribute of a piece
from its caption, read off its last token; the small heads for that are thrown away.

``python -m models.tiny.training.train_text --out runs/tiny/text.pt``; seeded, a few minutes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from models.tiny.composer.captions import caption
from models.tiny.composer.instruments import FAMILIES
from models.tiny.composer.score import BASS_STYLES, DRUM_STYLES, SIXTEENTHS, Piece, draw_piece
from models.tiny.composer.theory import KEYS
from models.tiny.training import arguments, checkpointing
from models.tiny.training.text import VOCABULARY, load_or_build

FIRST_PIECE = 50_000_000
# What is told apart: number of classes, and a piece's class.
CLASSES = (len(FAMILIES), len(KEYS), 2, len(SIXTEENTHS), len(DRUM_STYLES), 2, len(BASS_STYLES), 2, 2)


def text_config() -> T5Config:
    """A T5 encoder of half a million parameters."""
    return T5Config(vocab_size=VOCABULARY, d_model=128, d_kv=32, num_heads=4, d_ff=512, num_layers=2, dropout_rate=0.0)


def labels(piece: Piece) -> list[int]:
    """A piece's class for each of CLASSES."""
    return [
        FAMILIES.index(piece.family), KEYS.index(piece.key), int(piece.key.mode == "minor"),
        SIXTEENTHS.index(piece.sixteenth), DRUM_STYLES.index(piece.drums), int(piece.drums == "none"),
        BASS_STYLES.index(piece.bass), int(piece.loud), int(piece.lead),
    ]  # fmt: skip


class TextTrainer:
    """The encoder, one linear head per attribute, and the optimiser."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        torch.manual_seed(seed)
        self.encoder = T5EncoderModel(text_config())
        self.heads = nn.ModuleList(nn.Linear(128, classes) for classes in CLASSES)
        self.tokenizer, self.position, self.seed = tokenizer, FIRST_PIECE, seed
        parameters = [*self.encoder.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)

    def batch(self, size: int) -> list[Piece]:
        pieces: list[Piece] = []
        while len(pieces) < size:
            piece = draw_piece(self.position)
            self.position += 1
            if not piece.is_held_out:
                pieces.append(piece)
        return pieces

    def train_step(self, size: int, progress: float) -> tuple[float, float]:
        """One step; returns the mean loss in nats and the share of right families, keys, tempi and drums."""
        pieces = self.batch(size)
        rng = np.random.default_rng([self.seed, self.position, 2])
        text = self.tokenizer([caption(piece, rng) for piece in pieces], padding=True, return_tensors="pt")
        states = self.encoder(input_ids=text.input_ids, attention_mask=text.attention_mask).last_hidden_state
        last = states[torch.arange(size), text.attention_mask.sum(1) - 1]
        targets = torch.tensor([labels(piece) for piece in pieces])
        loss, right = torch.zeros(()), []
        for index, head in enumerate(self.heads):
            logits: Tensor = head(last)
            loss = loss + cross_entropy(logits, targets[:, index])
            right.append((logits.argmax(1) == targets[:, index]).float().mean())
        self.optimizer.param_groups[0]["lr"] = 2e-3 * checkpointing.cosine(progress)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item() / len(CLASSES), float(torch.stack(right)[[0, 1, 3, 4]].mean())


def main() -> None:
    args = arguments.parse(__doc__, ["out"], steps=1200, batch=64, seed=0, threads=1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    trainer = TextTrainer(load_or_build(args.out.parent / "tokenizer"), args.seed)
    for step in range(1, args.steps + 1):
        loss, right = trainer.train_step(args.batch, step / args.steps)
        if step % 100 == 0:
            print(f"step {step} of {args.steps} loss {loss:.3f} right {100 * right:.0f} %", flush=True)
    checkpointing.save(args.out, {"model": trainer.encoder.state_dict()})


if __name__ == "__main__":
    main()
