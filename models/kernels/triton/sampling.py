# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False
"""Guidance, temperature, top-k or top-p, the draw, the delay pattern and the line of the history, in one kernel.

The same rules as `models.engine.sampler`, and the same counter-based random numbers; one program per request and
codebook. Nothing is sorted: probabilities are not negative, so their bits order them, and the smallest one that stays
is found bit by bit, 31 counts (or sums) over what the program holds in registers.
"""

from __future__ import annotations

from torch import Tensor

from models.kernels.triton.compiler import jit, next_power_of_2, tl


def sample_step(
    logits: Tensor,
    layout: Tensor,
    integers: Tensor,
    numbers: Tensor,
    steps: Tensor,
    history: Tensor,
    broken: Tensor,
    delays: Tensor,
) -> None:
    """Sample one step of every request in the layout; for shapes see `models.engine.static_buffers.Buffers`.

    Args:
        logits: float32 [R, K, V]
        layout: int64 [.., R]: LANE_SLOT and NULL_ROW are read.
        integers: int64 [.., slots + 1] and
        numbers: float32 [.., slots + 1]: the parameters of each slot.
        steps: int64 [slots + 1], steps sampled so far; not advanced here.
        history: int64 [slots + 1, S, K], written at the step that is sampled.
        broken: int64 [slots + 1]: the step's number is put where logits are not finite and nothing stands yet.
        delays: int64 [K]
    """
    rows, codebooks, vocab = logits.shape
    slots = steps.shape[0]
    _sample[(rows, codebooks)](
        logits,
        layout[0],
        layout[1],
        integers,
        numbers,
        steps,
        history,
        broken,
        delays,
        slots,
        history.shape[1],
        vocab,
        CODEBOOKS=codebooks,
        BLOCK=next_power_of_2(vocab),
        num_warps=8,
    )


@jit
def _mix(z):
    """SplitMix64's finaliser."""
    z = (z ^ (z >> 30)) * tl.full([], 0xBF58476D1CE4E5B9, tl.uint64)
    z = (z ^ (z >> 27)) * tl.full([], 0x94D049BB133111EB, tl.uint64)
    return z ^ (z >> 31)


@jit
def _exponentials(seed, step, codebook, token):
    """`models.engine.random_numbers.exponentials`; the logarithm in float64, which keeps small numbers exact."""
    golden = tl.full([], 0x9E3779B97F4A7C15, tl.uint64)
    request = _mix(_mix(seed.to(tl.uint64) + golden) + step.to(tl.uint64))
    key = _mix(request + codebook.to(tl.uint64))
    word = _mix(key + (token // 2 + 1).to(tl.uint64) * golden)
    half = (word >> ((token % 2) * 32).to(tl.uint64)) & tl.full([], 0x7FFFFFFF, tl.uint64)
    uniform = (half.to(tl.int64).to(tl.float32) + 0.5) * 4.656612873077393e-10
    uniform = tl.minimum(uniform, 0.9999999403953552)
    return -tl.log(1.0 - uniform.to(tl.float64))


@jit
def _kth_largest(bits, count):
    """The largest number that at least ``count`` of the bits' numbers reach."""
    found = tl.zeros([], tl.int32)
    for index in range(31):
        candidate = found | (1 << (30 - index))
        reached = tl.sum((bits >= candidate).to(tl.int32), 0)
        found = tl.where(reached >= count, candidate, found)
    return found


@jit
def _smallest_within(probabilities, bits, mass):
    """The smallest bits above which no more than that mass lies."""
    found = tl.zeros([], tl.int32)
    for index in range(31):
        # While more than the mass lies at or above the candidate's neighbours, the threshold is higher.
        candidate = found | (1 << (30 - index))
        above = tl.sum(tl.where(bits >= candidate, probabilities, 0.0), 0)
        found = tl.where(above > mass, candidate, found)
    return found


@jit
def _sample(
    logits,
    lane_slots,
    null_rows,
    integers,
    numbers,
    steps,
    history,
    broken,
    delays,
    slots,
    history_steps,
    vocab,
    CODEBOOKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    lane = tl.program_id(0)
    codebook = tl.program_id(1)
    slot = tl.load(lane_slots + lane)
    if slot == slots - 1:
        return  # nobody's
    token = tl.arange(0, BLOCK)
    inside = token < vocab
    step = tl.load(steps + slot) + 1
    seed = tl.load(integers + slot)
    frames = tl.load(integers + slots + slot)
    top_k = tl.load(integers + 2 * slots + slot)
    greedy = tl.load(integers + 3 * slots + slot)
    guidance = tl.load(numbers + slot)
    temperature = tl.load(numbers + slots + slot)
    top_p = tl.load(numbers + 2 * slots + slot)

    null_row = tl.load(null_rows + lane)
    own = tl.load(logits + (lane * CODEBOOKS + codebook) * vocab + token, mask=inside, other=0.0)
    null = tl.load(logits + (null_row * CODEBOOKS + codebook) * vocab + token, mask=inside, other=0.0)
    guided = null + (own - null) * guidance
    whole = tl.sum(guided, 0)
    is_finite = (whole - whole) == 0.0
    if not is_finite:  # noqa: SIM102 no short circuit in a kernel
        if tl.load(broken + slot) == 0:
            tl.store(broken + slot, step)
    guided = tl.where(is_finite, guided, 0.0)  # what is drawn then means nothing, but it is a code
    guided = tl.where(inside, guided, float("-inf"))
    scores = guided
    if greedy == 0:
        weights = tl.exp((guided - tl.max(guided, 0)) / temperature)
        probabilities = tl.where(inside, weights / tl.sum(weights, 0), 0.0)
        bits = probabilities.to(tl.int32, bitcast=True)
        if top_k > 0:
            probabilities = tl.where(bits >= _kth_largest(bits, top_k), probabilities, 0.0)
        if top_p > 0.0:
            lowest = _smallest_within(probabilities, bits, top_p)
            above = tl.sum(tl.where(bits > lowest, probabilities, 0.0), 0)
            ties = bits == lowest
            before = tl.cumsum(tl.where(ties, probabilities, 0.0), 0) - probabilities
            stays = (bits > lowest) | (ties & (above + before <= top_p))
            probabilities = tl.where(stays, probabilities, 0.0)
        scores = probabilities / _exponentials(seed, step, codebook, token).to(tl.float32)
        scores = tl.where(inside, scores, float("-inf"))
    code = tl.argmax(scores, 0)
    frame = step - 1 - tl.load(delays + codebook)
    code = tl.where((frame >= 0) & (frame < frames), code.to(tl.int64), vocab)
    tl.store(history + (slot * history_steps + step) * CODEBOOKS + codebook, code)
