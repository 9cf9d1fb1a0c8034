"""Train the stereo and melody model, from the mono model's weights on: new pieces, captions and tunes in every step.

``python -m models.tiny.training.train_melody --runs runs/tiny --out runs/tiny/melody.pt --minutes 600``
Seeded. It may be stopped at any moment and goes on where it was last saved, at a constant rate, so that it need not be
known how long it will run; a mean of the weights over the last steps is kept beside them and can be used at any time.
``--finish 10 --out finished.pt --start melody.pt`` makes a finished model of a state, which itself can be trained on.
``runs`` holds what the mono model's training left: codebooks.npz, fewer_codes.npz, tokenizer and decoder.pt.
"""

from __future__ import annotations

import argparse
import time
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from models.tiny.composer.captions import caption
from models.tiny.composer.stereo import CHANNELS
from models.tiny.training import checkpointing
from models.tiny.training.codebooks import Codebooks
from models.tiny.training.fewer_codes import FEWER, FewerCodes
from models.tiny.training.melody_data import FULL_CLIP, StereoExample, StereoStream, null_melody
from models.tiny.training.melody_model import K, TinyMelody
from models.tiny.training.muon import Muon
from models.tiny.training.objective import code_losses, corrupt, delayed, opening_weights, quiet_loss
from models.tiny.training.text import load_or_build

FIRST_PIECE, VALIDATION_PIECE = 60_000_000, 90_000_000
# (share of the steps, frames, pieces in a batch, with melodies). Without a melody the prefix is the same for all, and
# many openings teach the text; a melody tells something in every bar.
MIXTURE = (
    (0.11, 14, 96, False), (0.12, 64, 32, False), (0.1, 400, 6, False), (0.07, FULL_CLIP, 2, False),
    (0.15, 64, 12, True), (0.33, 400, 5, True), (0.12, FULL_CLIP, 2, True),
)  # fmt: skip
# What is left out of the conditions of a piece that has both; a text alone is dropped as often as by the mono model.
TEXT_DROPOUT, MELODY_DROPOUT, BOTH_DROPOUT = 0.12, 0.12, 0.06
WARMUP, MEAN_OVER = 30, 300  # steps
FINISH_RATE = 0.5
# A melody tells which note the lead plays next, and that is two codes in a note's two hundred: of the 1.9 nats at a
# note's beginning the tune could tell most, and 2,000 steps in which they counted 5 times had learnt 0.1.
NOTE_WEIGHT, NOTE_STEPS = 30.0, 2
ASIDE = 24  # pieces that the run is watched on
GUIDANCE = 0.03  # of the head that looks at the melody, beside the loss of the codes


class Batch:
    """Pieces with their captions and tunes; what is dropped of them is drawn from the generator."""

    def __init__(
        self, examples: list[StereoExample], tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
    ) -> None:
        text = tokenizer([caption(e.piece, rng) for e in examples], padding=True, return_tensors="pt")
        draw = torch.from_numpy(rng.random((2, len(examples))))
        both = draw[0] < BOTH_DROPOUT
        self.steps = delayed(torch.stack([e.codes for e in examples]), FEWER, channels=2)
        self.ids, self.tokens = text.input_ids, text.attention_mask.bool()
        self.melody = torch.stack([e.melody for e in examples])
        self.begins = torch.stack([e.begins for e in examples])
        self.keep_text = ~both & (draw[1] > TEXT_DROPOUT)
        self.keep_melody = ~both & (draw[1] < 1 - MELODY_DROPOUT)

    def all_kept(self) -> None:
        self.keep_text, self.keep_melody = torch.ones_like(self.keep_text), torch.ones_like(self.keep_melody)

    def none_kept(self) -> None:
        self.keep_text, self.keep_melody = torch.zeros_like(self.keep_text), torch.zeros_like(self.keep_melody)

    def note_steps(self) -> Tensor:
        """The targets that tell which notes the lead plays: float32 [B, S - 1], 1 there and 0 elsewhere."""
        begins, told = self.begins.float(), torch.zeros(len(self.begins), self.steps.shape[2] - 1)
        delay = (K - 1) // CHANNELS
        for later in range(NOTE_STEPS):
            frames = begins.shape[1] - later
            told[:, delay + later : delay + later + frames] += begins[:, :frames]
        return told.clamp(max=1)

    def prefix_melody(self) -> Tensor:
        """int64 [B, 235], or [1, 235] where none is left."""
        if not self.melody.any():
            return null_melody()[None]
        return self.melody * self.keep_melody[:, None]


class MelodyTrainer:
    """Model, mean of its weights, optimisers and data position: what a resumed run needs."""

    def __init__(self, runs: Path, seed: int, *, bf16: bool = False) -> None:
        torch.manual_seed(seed)
        self._alphabet = Codebooks.load(runs / "codebooks.npz"), FewerCodes.load(runs / "fewer_codes.npz")
        self.tokenizer = load_or_build(runs / "tokenizer")
        self.model = TinyMelody()
        self.model.start_from(checkpointing.load_required(runs / "decoder.pt")["model"], self._alphabet[1])
        self.mean = {name: value.clone() for name, value in self.model.state_dict().items()}
        matrices = [p for n, p in self.model.decoder.named_parameters() if p.ndim == 2 and "layers." in n]
        rest = [p for p in self.model.parameters() if all(p is not m for m in matrices)]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=0.008), torch.optim.AdamW(rest, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.01)
        ]  # fmt: skip
        self.rates = [o.param_groups[0]["lr"] for o in self.optimizers]
        self.stream = StereoStream(*self._alphabet, FIRST_PIECE, timed=0.95)
        self.seed, self.step, self.bf16 = seed, 0, bf16

    @cached_property
    def aside(self) -> Batch:
        """Pieces that are never trained on."""
        stream = StereoStream(*self._alphabet, VALIDATION_PIECE, timed=1.0)
        examples = [stream.next(200, melody=True) for _ in range(ASIDE)]
        return Batch(examples, self.tokenizer, np.random.default_rng([self.seed, 6]))

    def logits(self, batch: Batch, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [B, 8, S, V]; and how far the guided head is astray, mean over rows with a melody, in nats."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            text = self.model.read(batch.ids, batch.tokens, batch.keep_text)
            melody = batch.prefix_melody()
            logits, astray = self.model(inputs, text, batch.tokens, melody)
        told = melody.any(1).float().expand(len(inputs))
        return logits.float(), (astray * told).sum() / told.sum().clamp_min(1)

    def train_step(self, rate: float, *, finish: bool = False) -> tuple[Tensor, int]:
        """One step; returns each codebook's mean loss in nats, [8], and the number of the batch's kind in MIXTURE."""
        rng = np.random.default_rng([self.seed, self.step, 1])
        kind = int(rng.choice(len(MIXTURE), p=[share for share, *_ in MIXTURE]))
        _, frames, pieces, melody = MIXTURE[kind]
        examples = [self.stream.next(frames, melody=melody) for _ in range(pieces // 2 + 1 if finish else pieces)]
        batch = Batch(examples, self.tokenizer, rng)
        if finish:
            batch.all_kept()
        inputs, target = corrupt(batch.steps[:, :, :-1], FEWER, rng), batch.steps[:, :, 1:]
        logits, astray = self.logits(batch, inputs)
        losses, extra = code_losses(logits, target), GUIDANCE * astray
        if finish:
            batch.none_kept()
            extra = extra + quiet_loss(logits, self.logits(batch, inputs)[0], target)
        weights = opening_weights(target.shape[2]) * (target != FEWER)
        if melody:
            weights[:, K - 1] *= 1 + (NOTE_WEIGHT - 1) * batch.note_steps()
        self._descend((losses * weights).sum() / weights.sum() + extra, rate)
        return (losses.sum((0, 2)) / (target != FEWER).sum((0, 2))).detach(), kind

    def _descend(self, loss: Tensor, rate: float) -> None:
        for optimizer, own in zip(self.optimizers, self.rates, strict=True):
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = own * rate * min(1.0, (self.step + 1) / WARMUP)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        share = 1 - min(1 - 1 / MEAN_OVER, self.step / (self.step + 10))
        for name, value in self.model.state_dict().items():
            self.mean[name].lerp_(value, share)

    @torch.no_grad()
    def news(self) -> dict[str, float]:
        """What the conditions tell, on pieces aside: losses in nats with all of them, without text, without melody.

        ``opening`` is the mean over all codes of the first 14 steps, ``lead`` that of the right side's lead where its
        notes begin;
        ``astray`` is how far the guided head is from looking at the melody where it is due.
        """
        aside, told = self.aside, dict[str, float]()
        for name in ("all", "no text", "no melody"):
            aside.all_kept()
            if name == "no text":
                aside.keep_text = torch.zeros_like(aside.keep_text)
            if name == "no melody":
                aside.keep_melody = torch.zeros_like(aside.keep_melody)
            logits, astray = self.logits(aside, aside.steps[:, :, :-1])
            losses = code_losses(logits, aside.steps[:, :, 1:])
            told["astray"] = max(float(astray), told.get("astray", 0.0))  # nothing to look at without a melody
            told[f"opening {name}"] = float(losses[:, :, :14].mean())
            notes = aside.note_steps()
            told[f"lead {name}"] = float((losses[:, K - 1] * notes).sum() / notes.sum())
        return told

    def state(self, seconds: float) -> dict[str, object]:
        return {"model": self.model.state_dict(), "mean": self.mean, "step": self.step, "seconds": seconds,
                "optimizers": [o.state_dict() for o in self.optimizers], "position": self.stream.position}  # fmt: skip

    def resume(self, path: Path) -> float:
        """Load the state of a stopped run; returns the seconds already spent."""
        state = checkpointing.load(path)
        if state is None:
            return 0.0
        self.model.load_state_dict(state["model"])
        self.mean = state["mean"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.stream.position, self.step = state["position"], state["step"]
        return float(state["seconds"])


def run(trainer: MelodyTrainer, out: Path, seconds: float, *, spent: float, finish: bool) -> None:
    """Train until that many seconds are spent; in a finish the rate falls to nothing."""
    started, losses = time.monotonic() - spent, torch.zeros(len(MIXTURE), K)
    while (now := time.monotonic() - started) < seconds:
        rate = FINISH_RATE * (1 - (now - spent) / (seconds - spent)) if finish else 1.0
        loss, kind = trainer.train_step(rate, finish=finish)
        losses[kind] = loss if not losses[kind].any() else losses[kind].lerp(loss, 0.15)
        if trainer.step % 20 == 0:
            _report(trainer.step, now, losses)
        if trainer.step % 60 == 0:
            print(" ".join(f"{name} {value:.3f}" for name, value in trainer.news().items()), flush=True)
            checkpointing.save(out, trainer.state(now))
    checkpointing.save(out, trainer.state(max(seconds, spent)))


def _report(step: int, seconds: float, losses: Tensor) -> None:
    means = " ".join(
        f"{frames}{'m' if melody else ''} {value:.3f}"
        for (_, frames, _, melody), value in zip(MIXTURE, losses.mean(1), strict=True)
    )
    print(f"step {step} {seconds / 60:.1f} min loss {means}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="state to finish; by default it goes on from --out")
    parser.add_argument("--minutes", type=float, default=600.0, help="in all, over every run; default: %(default)s")
    parser.add_argument("--finish", type=float, default=0.0, help="minutes of a finish, instead of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="for CPUs that have it (AVX512-BF16, AMX)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.finish and args.start is None:
        parser.error("--finish needs --start, the state to finish, so that --out can be another file")
    trainer = MelodyTrainer(args.runs, args.seed, bf16=args.bf16)
    spent = trainer.resume(args.start or args.out)
    budget = spent + args.finish * 60 if args.finish else args.minutes * 60
    run(trainer, args.out, budget, spent=spent, finish=bool(args.finish))


if __name__ == "__main__":
    main()
