"""Train the text encoder and the decoder on stem codes, with condition dropout for guidance.

``python -m models.tiny.training.train_decoder --codebooks runs/tiny/codebooks.npz --text runs/tiny/text.pt
--out runs/tiny/decoder.pt``
Seeded; started again with the same --out it goes on where it stopped.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import MusicgenDecoderConfig, MusicgenForCausalLM, PreTrainedTokenizerFast, T5EncoderModel

from models.tiny.composer.captions import caption
from models.tiny.composer.score import STEMS
from models.tiny.training import arguments, checkpointing
from models.tiny.training.codebooks import CODEBOOK_SIZE, Codebooks
from models.tiny.training.data import PieceStream
from models.tiny.training.muon import Muon
from models.tiny.training.objective import code_losses, corrupt, delayed, opening_weights, quiet_loss
from models.tiny.training.text import load_or_build
from models.tiny.training.train_text import text_config

K = len(STEMS)
FULL_CLIP = 1500  # frames of 30 s
CONDITION_DROPOUT = 0.12
FIRST_PIECE = 10_000_000
# (share of the steps, frames, pieces in a batch). Only the first notes are news that a caption could have told:
# openings of many pieces teach the text, whole clips (positions up to 1,503) the rest.
MIXTURE = ((0.15, 14, 160), (0.2, 64, 48), (0.35, 400, 9), (0.3, FULL_CLIP, 3))
FINISH_RATE = 0.3


def decoder_config() -> MusicgenDecoderConfig:
    return MusicgenDecoderConfig(
        vocab_size=CODEBOOK_SIZE, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, ffn_dim=1024,
        num_codebooks=K, max_position_embeddings=2048, activation_function="gelu", dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, scale_embedding=False, audio_channels=1, pad_token_id=CODEBOOK_SIZE,
        bos_token_id=CODEBOOK_SIZE, tie_word_embeddings=False,
    )  # fmt: skip


class TinyMusicGen(nn.Module):
    """Text encoder, projection and decoder, named as transformers' MusicgenForConditionalGeneration names them."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = T5EncoderModel(text_config())
        self.enc_to_dec_proj = nn.Linear(128, 256)
        nn.init.normal_(self.enc_to_dec_proj.weight, std=0.25)  # the text speaks up from the first step on
        self.decoder = MusicgenForCausalLM(decoder_config())

    def forward(self, steps: Tensor, tokens: Tensor, mask: Tensor, keep: Tensor) -> Tensor:
        """Logits of the next step: steps int64 [B, K, S], tokens and mask [B, L], keep bool [B] -> [B, K, S, V].

        A dropped condition is zero rows after the projection, exactly the null condition of generation.
        """
        states = self.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        states = self.enc_to_dec_proj(states) * (mask * keep[:, None])[:, :, None]
        batch, _, length = steps.shape
        logits = self.decoder(
            input_ids=steps.reshape(batch * K, length), encoder_hidden_states=states, encoder_attention_mask=mask,
            use_cache=False,
        ).logits  # fmt: skip
        shaped: Tensor = logits.view(batch, K, length, CODEBOOK_SIZE)
        return shaped


def optimizers(model: TinyMusicGen) -> list[torch.optim.Optimizer]:
    """Muon for the decoder's matrices, AdamW for everything else."""
    matrices = [p for n, p in model.decoder.named_parameters() if p.ndim == 2 and "layers." in n]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen and p.requires_grad]
    return [
        Muon(matrices, lr=0.012),
        torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01),
    ]


class DecoderTrainer:
    """Model, optimisers and data position: what a resumed run needs."""

    def __init__(
        self, codebooks: Codebooks, tokenizer: PreTrainedTokenizerFast, text: Path, seed: int, *, bf16: bool = False
    ) -> None:
        torch.manual_seed(seed)
        self.bf16 = bf16
        self.model = TinyMusicGen()
        self.model.text_encoder.load_state_dict(checkpointing.load_required(text)["model"])
        self.optimizers = optimizers(self.model)
        self.rates = [o.param_groups[0]["lr"] for o in self.optimizers]
        self.tokenizer, self.seed, self.step = tokenizer, seed, 0
        self.stream = PieceStream(codebooks, FIRST_PIECE, timed=0.92)

    def batch(self, frames: int, pieces: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """New pieces, their captions and which conditions survive the dropout."""
        examples = [self.stream.next(frames) for _ in range(pieces)]
        rng = np.random.default_rng([self.seed, self.stream.position])
        text = self.tokenizer([caption(e.piece, rng) for e in examples], padding=True, return_tensors="pt")
        keep = torch.from_numpy(rng.random(pieces) > CONDITION_DROPOUT)
        return (
            delayed(torch.stack([e.codes for e in examples]), CODEBOOK_SIZE),
            text.input_ids,
            text.attention_mask,
            keep,
        )

    def train_step(self, progress: float, *, finish: bool = False) -> tuple[Tensor, int]:
        """One step of both optimisers; returns each codebook's mean loss in nats, [K], and the frames of the batch."""
        frames, pieces = self._draw_shape()
        steps, tokens, mask, keep = self.batch(frames, pieces // 2 + 1 if finish else pieces)
        rng = np.random.default_rng([self.seed, self.step, 3])
        inputs, target = corrupt(steps[:, :, :-1], CODEBOOK_SIZE, rng), steps[:, :, 1:]
        logits = self._logits(inputs, tokens, mask, keep | finish)
        losses, extra = code_losses(logits, target), torch.zeros(())
        if finish:
            extra = quiet_loss(logits, self._logits(inputs, tokens, mask, torch.zeros_like(keep)), target)
        weights = opening_weights(target.shape[2]) * (target != CODEBOOK_SIZE)
        part = FINISH_RATE if finish else 1.0
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = rate * part * checkpointing.cosine(progress, floor=0.03)
        ((losses * weights).sum() / weights.sum() + extra).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return (losses * (target != CODEBOOK_SIZE)).sum((0, 2)).detach() / (target != CODEBOOK_SIZE).sum((0, 2)), frames

    def _logits(self, inputs: Tensor, tokens: Tensor, mask: Tensor, keep: Tensor) -> Tensor:
        """float32 [B, K, S, V]"""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.model(inputs, tokens, mask, keep)
        return logits.float()

    def _draw_shape(self) -> tuple[int, int]:
        """Frames and pieces of this step's batch, drawn from the mixture by the step's number."""
        shares = [share for share, _, _ in MIXTURE]
        chosen = np.random.default_rng([self.seed, self.step, 1]).choice(len(MIXTURE), p=shares)
        return MIXTURE[chosen][1:]

    def state(self, seconds: float) -> dict[str, object]:
        return {"model": self.model.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers],
                "position": self.stream.position, "step": self.step, "seconds": seconds}  # fmt: skip

    def resume(self, path: Path) -> float:
        """Load the state of a stopped run; returns the seconds already spent."""
        state = checkpointing.load(path)
        if state is None:
            return 0.0
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.stream.position, self.step = state["position"], state["step"]
        return float(state["seconds"])


def main() -> None:
    # bfloat16 products are for CPUs that have them (AVX512-BF16, AMX).
    paths = ["codebooks", "text", "out"]
    args = arguments.parse(__doc__, paths, flags=["bf16"], minutes=75.0, finish=8.0, seed=0, threads=1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = load_or_build(args.text.parent / "tokenizer")
    trainer = DecoderTrainer(Codebooks.load(args.codebooks), tokenizer, args.text, args.seed, bf16=args.bf16)
    spent, budget, finish = trainer.resume(args.out), args.minutes * 60, args.finish * 60
    started, losses = time.monotonic() - spent, {frames: torch.zeros(K) for _, frames, _ in MIXTURE}
    while (seconds := time.monotonic() - started) < budget + finish:
        finishing = seconds >= budget
        progress = (seconds - budget) / finish if finishing else seconds / budget
        loss, frames = trainer.train_step(progress, finish=finishing)
        losses[frames] = loss if trainer.step < 20 else losses[frames].lerp(loss, 0.15)
        if trainer.step % 20 == 0:
            means = " ".join(f"{length} frames {mean.mean():.3f}" for length, mean in losses.items())
            by_stem = " ".join(f"{name} {value:.3f}" for name, value in zip(STEMS, losses[FULL_CLIP], strict=True))
            print(f"step {trainer.step} {seconds / 60:.1f} min loss {means} (whole clips: {by_stem})", flush=True)
        if trainer.step % 100 == 0:
            checkpointing.save(args.out, trainer.state(seconds))
    checkpointing.save(args.out, trainer.state(budget + finish))


if __name__ == "__main__":
    main()
