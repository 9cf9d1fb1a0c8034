"""What every decoder here is trained on: the delay pattern, the loss of each code, mistakes in the input."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

# Shares of wrong codes in the input, one drawn per piece: in generation the model hears its own mistakes, and has to
# find back to the tune.
CORRUPTION = (0.0, 0.02, 0.06, 0.12)
# The finish: guidance 3 multiplies the difference between the logits with and without the prompt by 3, also among codes
# that neither believes in, where the loss does not care and the difference is noise of several nats. It came back as
# wrong notes and lost ticks of the clock: so in the end both are computed for each piece, and among the codes below
# UNLIKELY the prompt must not raise any. (Found by comparing the guided logits with the truth, code by code.)
UNLIKELY = 1e-3
QUIET = 0.03


def delayed(codes: Tensor, special: int, channels: int = 1) -> Tensor:
    """Codes int64 [B, K, T] -> steps [B, K, T + K / channels].

    Step s holds codebook q of frame s - 1 - q // channels, or the special token.
    """
    batch, codebooks, frames = codes.shape
    steps = torch.full((batch, codebooks, frames + codebooks // channels), special)
    for q in range(codebooks):
        first = 1 + q // channels
        steps[:, q, first : first + frames] = codes[:, q]
    return steps


def opening_weights(steps: int) -> Tensor:
    """Weight of each step's loss: the opening, where the prompt decides, counts up to 11 times."""
    place = torch.arange(steps)
    return 1 + 8 * torch.exp(-place / 10) + 2 * torch.exp(-place / 60)


def code_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of each code, 0 for the special token: logits [B, K, S, V], target [B, K, S] -> [B, K, S]."""
    return cross_entropy(logits.permute(0, 3, 1, 2), target, ignore_index=logits.shape[-1], reduction="none")


def quiet_loss(told: Tensor, untold: Tensor, target: Tensor) -> Tensor:
    """The loss without the prompt, and what the prompt raises among the codes that nobody believes in.

    Args:
        told: logits with the prompt, [B, K, S, V]; untold: without it.
    """
    with_prompt, without = told.log_softmax(-1), untold.log_softmax(-1)
    unlikely = (torch.maximum(with_prompt, without) < math.log(UNLIKELY)).detach()
    raised = ((with_prompt - without).clamp_min(0) ** 2 * unlikely).sum() / unlikely.sum()
    return 0.5 * code_losses(untold, target)[target != told.shape[-1]].mean() + QUIET * raised


def corrupt(steps: Tensor, special: int, rng: np.random.Generator) -> Tensor:
    """Replace a share of each piece's codes by codes from elsewhere in the batch: int64 [B, K, S]."""
    shares = torch.from_numpy(rng.choice(CORRUPTION, size=(len(steps), 1, 1)))
    wrong = torch.from_numpy(rng.random(steps.shape)) < shares
    others = steps[torch.from_numpy(rng.permutation(len(steps)))].roll(int(rng.integers(1, 14)), dims=2)
    return torch.where(wrong & (steps != special) & (others != special), others, steps)
