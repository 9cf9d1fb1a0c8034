"""Logits to codes: guidance, temperature, top-p or top-k, and one draw per codebook.

All requests of a step are sampled together, each with its own parameters, in float32. The tensors that describe the
parameters change only when a request joins or leaves, so they are built then and kept. This module knows no requests'
progress, no cache and no audio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.engine.random_numbers import exponentials, token_offsets
from models.types import SamplingParams

# Below this a float32 temperature would divide by 0; the distribution is one-hot long before.
_SMALLEST_TEMPERATURE = 1e-30


@dataclass(frozen=True, slots=True)
class _Subset:
    """The requests a truncation applies to. ``rows`` is None when it applies to all of them."""

    rows: Tensor | None  # int64 [b]
    values: Tensor  # [b, 1, 1]: k−1 (int64) for top-k, p (float32) for top-p
    ks: tuple[int, ...] = ()  # the distinct k among them


@dataclass(frozen=True, slots=True)
class _Double:
    """The requests with double guidance.

    Attributes:
        rows: int64 ``[b]``, which they are.
        wordless: int64 ``[b]``, the logit rows that hear all but their texts.
        beta: float32 ``[b, 1, 1]``.
    """

    rows: Tensor
    wordless: Tensor
    beta: Tensor

    @classmethod
    def build(cls, wordless: Mapping[int, tuple[int, float]], device: torch.device | str) -> _Double:
        rows, betas = zip(*wordless.values(), strict=True)
        return cls(
            torch.tensor(list(wordless), dtype=torch.int64, device=device),
            torch.tensor(rows, dtype=torch.int64, device=device),
            torch.tensor(betas, dtype=torch.float32, device=device)[:, None, None],
        )


@dataclass(frozen=True, slots=True)
class SamplingBatch:
    """Parameters of B requests as tensors; the layout of their logit rows is ``null_rows``'s.

    Attributes:
        null_rows: int64 ``[B]``: which logit row holds the unconditioned logits of request b; b itself if unguided.
            Row b of the logits is the conditioned row of request b.
        guidance: float32 ``[B, 1, 1]``; 1 if unguided, which leaves the logits as they are.
        double: of the requests with double guidance, if there are any.
        temperature: float32 ``[B, 1, 1]``, above 0.
        greedy: bool ``[B, 1, 1]``, or None if no request is greedy.
        all_greedy: nothing has to be drawn.
    """

    seeds: Tensor  # int64 [B]
    null_rows: Tensor
    guidance: Tensor
    double: _Double | None
    temperature: Tensor
    greedy: Tensor | None
    all_greedy: bool
    top_k: _Subset | None
    top_p: _Subset | None
    codebooks: Tensor  # int64 [K]
    offsets: Tensor  # int64 [ceil(V / 2)]

    @classmethod
    def build(
        cls,
        params: Sequence[SamplingParams],
        seeds: Sequence[int],
        null_rows: Sequence[int],
        wordless: Mapping[int, tuple[int, float]] | None = None,
        *,
        num_codebooks: int,
        vocab_size: int,
        device: torch.device | str = "cpu",
    ) -> SamplingBatch:
        """Lay the parameters of B requests out; ``null_rows[b] == b`` says that request b has no null row.

        Args:
            wordless: request → the logit row that hears all but its text, and beta; of those with double guidance.
        """

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]

        greedy = [p.is_greedy for p in params]
        is_guided = [null != row for row, null in enumerate(null_rows)]
        return cls(
            seeds=torch.tensor(seeds, dtype=torch.int64, device=device),
            null_rows=torch.tensor(null_rows, dtype=torch.int64, device=device),
            guidance=column([p.guidance if guided else 1.0 for p, guided in zip(params, is_guided, strict=True)]),
            double=_Double.build(wordless, device) if wordless else None,
            temperature=column([1.0 if p.is_greedy else max(p.temperature, _SMALLEST_TEMPERATURE) for p in params]),
            greedy=torch.tensor(greedy, device=device)[:, None, None] if any(greedy) else None,
            all_greedy=all(greedy),
            top_k=_top_k_subset(params, vocab_size, device),
            top_p=_top_p_subset(params, device),
            codebooks=torch.arange(num_codebooks, dtype=torch.int64, device=device),
            offsets=token_offsets(vocab_size, device),
        )


def _rows(chosen: Sequence[int], total: int, device: torch.device | str) -> Tensor | None:
    return None if len(chosen) == total else torch.tensor(chosen, dtype=torch.int64, device=device)


def _top_k_subset(params: Sequence[SamplingParams], vocab_size: int, device: torch.device | str) -> _Subset | None:
    chosen = [b for b, p in enumerate(params) if not p.is_greedy and p.top_p == 0 and 0 < p.top_k < vocab_size]
    if not chosen:
        return None
    ks = [params[b].top_k for b in chosen]
    index = torch.tensor(ks, dtype=torch.int64, device=device)[:, None, None] - 1
    return _Subset(_rows(chosen, len(params), device), index, tuple(sorted(set(ks))))


def _top_p_subset(params: Sequence[SamplingParams], device: torch.device | str) -> _Subset | None:
    chosen = [b for b, p in enumerate(params) if not p.is_greedy and p.top_p > 0]
    if not chosen:
        return None
    masses = torch.tensor([params[b].top_p for b in chosen], dtype=torch.float32, device=device)[:, None, None]
    return _Subset(_rows(chosen, len(params), device), masses)


def sample(logits: Tensor, steps: Tensor, batch: SamplingBatch) -> tuple[Tensor, Tensor]:
    """Draw one code per request and codebook.

    Args:
        logits: float32 ``[R, K, V]``; rows 0 … B−1 are conditioned, the others the null and wordless rows.
        steps: int64 ``[B]``, the step that is being sampled (the counter of the random numbers).
        batch: the parameters.

    Returns:
        Codes int64 ``[B, K]``; bool ``[B]``, False where a request's logits are not finite and its codes mean nothing.
    """
    guided = guide(logits, batch)
    finite = guided.sum(dim=(1, 2)).isfinite()
    if batch.all_greedy:
        return guided.argmax(dim=-1), finite
    scores = truncated_probabilities(guided, batch)
    # The largest p / Exp(1) wins with probability p (an exponential race): no cumulative sum, no normalisation, and
    # a rounding difference changes the winner only when two tokens all but tie.
    vocab_size = logits.shape[-1]
    scores /= exponentials(batch.seeds, steps, batch.codebooks, batch.offsets, vocab_size)
    if batch.greedy is not None:
        scores = torch.where(batch.greedy, guided, scores)
    return scores.argmax(dim=-1), finite


def guide(logits: Tensor, batch: SamplingBatch) -> Tensor:
    """Classifier-free guidance: ``[R, K, V]`` to ``[B, K, V]``.

    With a wordless row it is double guidance (Rouard et al., 2024, section 4.3), null + guidance · (wordless + beta ·
    (conditioned − wordless) − null): beta says how much the text counts beside the style.
    """
    conditioned = logits[: len(batch.seeds)]
    if len(logits) == len(conditioned):
        return conditioned
    if batch.double is not None:
        wordless = logits[batch.double.wordless]
        pushed = wordless + (conditioned[batch.double.rows] - wordless) * batch.double.beta
        conditioned = conditioned.index_copy(0, batch.double.rows, pushed)
    null = logits[batch.null_rows]
    return null + (conditioned - null) * batch.guidance


def truncated_probabilities(guided: Tensor, batch: SamplingBatch) -> Tensor:
    """softmax(logits / T) with the tokens outside top-p or top-k at 0; not normalised again. ``[B, K, V]``"""
    # The largest logit is taken off first, so that a tiny temperature gives −inf and never inf − inf.
    probs = ((guided - guided.amax(dim=-1, keepdim=True)) / batch.temperature).softmax(dim=-1)
    if batch.top_k is not None:
        _truncate(probs, batch.top_k, _below_kth)
    if batch.top_p is not None:
        _truncate(probs, batch.top_p, _beyond_mass)
    return probs


def _truncate(probs: Tensor, subset: _Subset, dropped: Callable[[Tensor, _Subset], Tensor]) -> None:
    """Set what ``dropped`` marks to 0, in place, for the requests of the subset only."""
    if subset.rows is None:
        probs.masked_fill_(dropped(probs, subset), 0.0)
        return
    chosen = probs[subset.rows]
    probs[subset.rows] = chosen.masked_fill_(dropped(chosen, subset), 0.0)


def _below_kth(probs: Tensor, subset: _Subset) -> Tensor:
    """Tokens less likely than the k-th; ties with it stay, as in audiocraft and transformers. bool ``[b, K, V]``"""
    index = subset.values.expand(-1, probs.shape[1], 1)
    if probs.device.type != "cpu":
        return probs < probs.topk(subset.ks[-1], dim=-1).values.gather(-1, index)
    # Selection instead of sorting: a tenth of torch's topk on a CPU.
    last = probs.shape[-1] - 1
    ascending = np.partition(probs.numpy(), [last + 1 - k for k in subset.ks], axis=-1)
    return probs < torch.from_numpy(ascending).gather(-1, last - index)


def _beyond_mass(probs: Tensor, subset: _Subset) -> Tensor:
    """Tokens before which, in order of likelihood, more than p of the mass already lies. bool ``[b, K, V]``"""
    ordered, order = probs.sort(dim=-1, descending=True, stable=True)
    beyond = ordered.cumsum(dim=-1).sub_(ordered) > subset.values
    return torch.empty_like(beyond).scatter_(-1, order, beyond)
