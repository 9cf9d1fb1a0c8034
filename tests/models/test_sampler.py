"""What is sampled follows the distribution that was asked for, and never depends on who else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from transformers import (
    ClassifierFreeGuidanceLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from models.engine.random_numbers import _GOLDEN, exponentials, mix_, token_offsets
from models.engine.sampler import SamplingBatch, guide, sample, truncated_probabilities
from models.types import MAX_SEED, SamplingParams

K, V = 4, 64
CODEBOOKS = torch.arange(K)
# A false alarm once in 10,000 runs of a test; the seeds are fixed, so a green test stays green.
ALPHA = 1e-4


def batch_of(params: Sequence[SamplingParams], seeds: Sequence[int] | None = None, vocab: int = V) -> SamplingBatch:
    """Unguided requests: row b is request b."""
    rows = range(len(params))
    return SamplingBatch.build(params, seeds or list(rows), list(rows), num_codebooks=K, vocab_size=vocab)


def logits_of(requests: int, seed: int = 0, spread: float = 2.0, vocab: int = V) -> Tensor:
    return torch.randn(requests, K, vocab, generator=torch.Generator().manual_seed(seed)) * spread


def draw(seeds: Tensor, steps: Tensor, vocab: int = V) -> Tensor:
    return exponentials(seeds, steps, CODEBOOKS, token_offsets(vocab), vocab)


# ------------------------------------------------------------------------------------------------ random numbers


def test_the_mixing_function_is_splitmix64() -> None:
    """The published first outputs of the generator seeded with 1234567."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    states = 1234567 + torch.arange(1, 6) * _GOLDEN
    assert [value % 2**64 for value in mix_(states).tolist()] == known


def test_numbers_depend_on_the_request_alone() -> None:
    seeds, steps = torch.tensor([7, 0, MAX_SEED, 7]), torch.tensor([1, 5, 1502, 2])
    together = draw(seeds, steps)
    for row in range(4):
        assert torch.equal(draw(seeds[row : row + 1], steps[row : row + 1])[0], together[row])


def test_numbers_of_a_token_do_not_depend_on_the_size_of_the_vocabulary() -> None:
    seeds, steps = torch.tensor([3]), torch.tensor([4])
    assert torch.equal(draw(seeds, steps, 64)[..., :33], draw(seeds, steps, 33))


def test_numbers_are_exponential() -> None:
    numbers = draw(torch.arange(50), torch.arange(50), 2048).flatten().double()
    assert numbers.min() > 0
    assert numbers.isfinite().all()
    assert stats.kstest(numbers.numpy(), "expon").pvalue > ALPHA


@pytest.mark.parametrize("axis", ["seed", "step", "codebook", "token"])
def test_neighbours_are_independent(axis: str) -> None:
    """Counters that differ by one give unrelated numbers: a 16 × 16 table of neighbouring ranks is flat."""
    seeds, steps = torch.arange(64), torch.zeros(64, dtype=torch.int64)
    grid = {
        "seed": draw(seeds, steps, 512),
        "step": draw(steps, seeds, 512),
        "codebook": draw(seeds, steps, 512).transpose(0, 1),
        "token": draw(seeds, steps, 512).permute(2, 0, 1),
    }[axis]
    uniform = 1 - (-grid).exp()
    bins = (uniform * 16).long().clamp(max=15)
    table = torch.bincount((bins[:-1] * 16 + bins[1:]).flatten(), minlength=256)
    assert stats.chisquare(table.numpy()).pvalue > ALPHA


# ------------------------------------------------------------------------------------------- the target distribution


def reference_probabilities(logits: Tensor, params: SamplingParams) -> Tensor:
    """The same rules, one distribution at a time, as slowly and plainly as they read."""
    probs = (logits.double() / params.temperature).softmax(-1)
    order = sorted(range(len(probs)), key=lambda token: (-float(probs[token]), token))
    if params.top_p > 0:
        before = 0.0
        for token in order:
            mass = float(probs[token])
            if before > params.top_p:
                probs[token] = 0
            before += mass
    elif 0 < params.top_k < len(probs):
        probs[probs < probs[order[params.top_k - 1]]] = 0
    return probs


SOME_PARAMS = [
    SamplingParams(top_k=0),
    SamplingParams(top_k=5),
    SamplingParams(top_k=1),
    SamplingParams(top_k=250, temperature=0.7),
    SamplingParams(top_k=20, temperature=1.8),
    SamplingParams(top_p=0.5),
    SamplingParams(top_p=0.9, top_k=3, temperature=1.3),
    SamplingParams(top_p=1e-6),
    SamplingParams(top_p=1.0, temperature=0.3),
]


def test_every_rule_in_one_batch() -> None:
    logits = logits_of(len(SOME_PARAMS))
    probs = truncated_probabilities(logits, batch_of(SOME_PARAMS))
    for row, params in enumerate(SOME_PARAMS):
        for codebook in range(K):
            expected = reference_probabilities(logits[row, codebook], params).float()
            torch.testing.assert_close(probs[row, codebook], expected, atol=1e-6, rtol=1e-4)


def test_top_k_keeps_ties() -> None:
    logits = torch.tensor([3.0, 2.0, 2.0, 2.0, 1.0, 0.0]).expand(1, K, 6)
    probs = truncated_probabilities(logits, batch_of([SamplingParams(top_k=2)], vocab=6))
    assert (probs > 0).tolist() == [[[True, True, True, True, False, False]] * K]


def test_top_p_keeps_the_token_that_crosses_the_mass() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(1, K, 4)
    probs = truncated_probabilities(logits, batch_of([SamplingParams(top_p=0.6)], vocab=4))
    assert (probs > 0).tolist() == [[[True, True, False, False]] * K]


@pytest.mark.parametrize("temperature", [1e-30, 1e-45, 1e-3])
def test_a_tiny_temperature_is_greedy_and_not_a_number_never_appears(temperature: float) -> None:
    logits = logits_of(3)
    codes, finite = sample(
        logits, torch.ones(3, dtype=torch.int64), batch_of([SamplingParams(temperature=temperature)] * 3)
    )
    assert finite.all()
    if temperature < 1e-6:
        assert torch.equal(codes, logits.argmax(-1))


def test_probabilities_equal_those_of_transformers() -> None:
    logits = logits_of(1, vocab=2048)
    flat = logits.view(K, 2048)
    ids = torch.zeros(K, 1, dtype=torch.int64)
    for params, warper in (
        (SamplingParams(temperature=0.8, top_k=250), TopKLogitsWarper(250)),
        (SamplingParams(temperature=0.8, top_p=0.9), TopPLogitsWarper(0.9)),
    ):
        theirs = warper(ids, TemperatureLogitsWarper(0.8)(ids, flat)).softmax(-1)
        ours = truncated_probabilities(logits, batch_of([params], vocab=2048))[0]
        torch.testing.assert_close(ours / ours.sum(-1, keepdim=True), theirs, atol=1e-7, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------- guidance


def test_guidance_equals_transformers_and_leaves_unguided_requests_alone() -> None:
    logits = logits_of(5)  # requests 0 and 2 are guided: null rows 3 and 4
    params = [SamplingParams(guidance=3.0), SamplingParams(guidance=5.0), SamplingParams(guidance=1.7)]
    batch = SamplingBatch.build(params, [0, 1, 2], [3, 1, 4], num_codebooks=K, vocab_size=V)
    guided = guide(logits, batch)
    for row, null, scale in ((0, 3, 3.0), (2, 4, 1.7)):
        pair = torch.cat([logits[row], logits[null]])
        theirs = ClassifierFreeGuidanceLogitsProcessor(scale)(torch.zeros(K, 1, dtype=torch.int64), pair)
        assert torch.equal(guided[row], theirs)
    assert torch.equal(guided[1], logits[1])


# ----------------------------------------------------------------------------------------------------- what is drawn


def count_draws(logits: Tensor, params: SamplingParams, draws: int) -> Tensor:
    """How often each token of each codebook is drawn over many seeds. int64 ``[K, V]``"""
    batch = batch_of([params] * draws, seeds=list(range(1000, 1000 + draws)))
    codes, _ = sample(logits.expand(draws, K, V), torch.full((draws,), 17), batch)
    return torch.stack([torch.bincount(codes[:, codebook], minlength=V) for codebook in range(K)])


@pytest.mark.parametrize("params", SOME_PARAMS[:7], ids=str)
def test_draws_follow_the_target(params: SamplingParams) -> None:
    logits, draws = logits_of(1, seed=5), 20_000
    counts = count_draws(logits, params, draws)
    for codebook in range(K):
        target = reference_probabilities(logits[0, codebook], params).numpy()
        target = target / target.sum()
        seen = counts[codebook].numpy()
        assert seen[target == 0].sum() == 0, "a token outside the truncation was drawn"
        expected = target * draws
        common = expected >= 5  # the chi-square test wants at least 5 expected in every cell: the rest is one cell
        observed = np.append(seen[common], seen[~common].sum())
        wanted = np.append(expected[common], expected[~common].sum())
        observed, wanted = observed[wanted > 0], wanted[wanted > 0]
        if len(wanted) > 1:
            assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > ALPHA


def test_draws_are_those_of_transformers_in_distribution() -> None:
    """Their own pipeline (warpers, softmax, multinomial) and ours: one contingency table per codebook."""
    logits, draws = logits_of(1, seed=6), 20_000
    ids = torch.zeros(K, 1, dtype=torch.int64)
    warped = TopKLogitsWarper(20)(ids, TemperatureLogitsWarper(1.2)(ids, logits[0]))
    theirs = warped.softmax(-1).multinomial(draws, replacement=True, generator=torch.Generator().manual_seed(1))
    ours = count_draws(logits, SamplingParams(temperature=1.2, top_k=20), draws)
    for codebook in range(K):
        table = torch.stack([ours[codebook], torch.bincount(theirs[codebook], minlength=V)])
        table = table[:, table.sum(0) >= 10]
        assert stats.chi2_contingency(table.numpy()).pvalue > ALPHA


def test_codebooks_and_steps_are_drawn_independently() -> None:
    """Flat distributions: pairs of draws of two codebooks, and of two steps of one codebook, fill a flat table."""
    draws = 8 * 64 * 16
    batch = SamplingBatch.build(
        [SamplingParams(top_k=0)] * draws, range(draws), range(draws), num_codebooks=K, vocab_size=16
    )
    flat = torch.zeros(draws, K, 16)
    first, _ = sample(flat, torch.full((draws,), 1), batch)
    second, _ = sample(flat, torch.full((draws,), 2), batch)
    for one, other in ((first[:, 0], first[:, 1]), (first[:, 2], first[:, 3]), (first[:, 0], second[:, 0])):
        assert stats.chisquare(torch.bincount(one * 16 + other, minlength=256).numpy()).pvalue > ALPHA


params_strategy = st.builds(
    SamplingParams,
    guidance=st.sampled_from([1.0, 3.0]),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 7, 250]),
    top_p=st.sampled_from([0.0, 0.0, 0.3, 0.95]),
    greedy=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(requests=st.lists(st.tuples(params_strategy, st.integers(0, MAX_SEED)), min_size=1, max_size=6), data=st.data())
def test_a_request_draws_the_same_alone_and_in_any_batch(
    requests: list[tuple[SamplingParams, int]], data: st.DataObject
) -> None:
    params, seeds = [p for p, _ in requests], [seed for _, seed in requests]
    steps = torch.tensor(data.draw(st.lists(st.integers(1, 1503), min_size=len(params), max_size=len(params))))
    guided = [index for index, p in enumerate(params) if p.guidance > 1]
    null_rows = [len(params) + guided.index(index) if index in guided else index for index in range(len(params))]
    logits = logits_of(len(params) + len(guided), seed=data.draw(st.integers(0, 99)))
    batch = SamplingBatch.build(params, seeds, null_rows, num_codebooks=K, vocab_size=V)
    codes, finite = sample(logits, steps, batch)
    assert finite.all()
    for row, null in enumerate(null_rows):
        rows = [row] if null == row else [row, null]
        solo = SamplingBatch.build([params[row]], [seeds[row]], [len(rows) - 1], num_codebooks=K, vocab_size=V)
        alone, _ = sample(logits[rows], steps[row : row + 1], solo)
        assert torch.equal(alone[0], codes[row])


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("row", [1, 3], ids=["conditioned", "null"])
def test_logits_that_are_not_finite_are_reported_for_their_request_only(poison: float, row: int) -> None:
    logits = logits_of(4)
    clean = logits.clone()
    logits[row, 2, 5] = poison
    params = [SamplingParams(guidance=1.0), SamplingParams(), SamplingParams(guidance=1.0)]
    batch = SamplingBatch.build(params, [0, 1, 2], [0, 3, 2], num_codebooks=K, vocab_size=V)
    steps = torch.ones(3, dtype=torch.int64)
    codes, finite = sample(logits, steps, batch)
    assert finite.tolist() == [True, False, True]
    expected, _ = sample(clean, steps, batch)
    assert torch.equal(codes[[0, 2]], expected[[0, 2]])
