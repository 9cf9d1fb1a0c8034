"""Reservation is exact and never overlaps; a region that was used before behaves like a fresh one."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import DecoderConfig
from models.musicgen.decoder import MusicGenDecoder
from models.musicgen.kv_cache import KVCache
from models.musicgen.rows import RowHandle

CONFIG = DecoderConfig(
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    ffn_dim=32,
    num_codebooks=4,
    vocab_size=8,
    audio_channels=1,
    text_hidden_size=12,
)


@pytest.fixture(scope="module")
def decoder() -> MusicGenDecoder:
    decoder = MusicGenDecoder(CONFIG)
    generator = torch.Generator().manual_seed(0)
    for tensor in decoder.parameters():
        tensor.normal_(0, 0.5, generator=generator)
    return decoder


def overlaps(rows: list[RowHandle]) -> bool:
    ordered = sorted(rows, key=lambda row: row.start)
    return any(before.end > after.start for before, after in pairwise(ordered))


@given(seed=st.integers(0, 2**32), capacity=st.integers(1, 60), turns=st.integers(1, 60))
def test_any_order_of_allocating_and_freeing_keeps_rows_apart(seed: int, capacity: int, turns: int) -> None:
    chance = random.Random(seed)
    cache, rows = KVCache(CONFIG, capacity), list[RowHandle]()
    for _ in range(turns):
        wanted = [chance.randint(1, capacity) for _ in range(chance.choice((1, 2)))]
        if cache.can_allocate(wanted):
            rows += [cache.allocate(each) for each in wanted]
        elif rows:
            cache.free(rows.pop(chance.randrange(len(rows))))
        cache.check_integrity()
        assert not overlaps(rows)
        assert cache.num_rows == len(rows)
        assert cache.free_positions == capacity - sum(row.positions for row in rows)
    for row in rows:
        cache.free(row)
    cache.check_integrity()
    assert cache.can_allocate([capacity])


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5), capacity=st.integers(1, 60))
def test_what_can_be_allocated_is(lengths: list[int], capacity: int) -> None:
    cache = KVCache(CONFIG, capacity)
    assert cache.can_allocate(lengths) == (sum(lengths) <= capacity)
    if cache.can_allocate(lengths):
        assert [cache.allocate(each).positions for each in lengths] == lengths


def test_a_gap_too_small_for_a_row_is_passed_over() -> None:
    cache = KVCache(CONFIG, 10)
    first, second = cache.allocate(3), cache.allocate(3)
    cache.free(first)
    assert cache.free_positions == 7
    assert not cache.can_allocate([7])  # 3 and 4, but not in one piece
    assert cache.can_allocate([4, 3])
    assert cache.allocate(4).start == 6
    cache.free(second)
    assert cache.can_allocate([6])


def logits_of(
    decoder: MusicGenDecoder, cache: KVCache, text: torch.Tensor | None, steps: int, seed: int
) -> torch.Tensor:
    """[steps, K, V] of one row with random codes."""
    row = cache.allocate(steps)
    if text is not None:
        cache.set_cross(row, decoder.cross_kv(decoder.project_text(text)))
    view = cache.view([row])
    codes = torch.randint(9, (steps, 1, 4), generator=torch.Generator().manual_seed(seed))
    made = [decoder.forward_step(codes[step], torch.tensor([step]), view)[0] for step in range(steps)]
    cache.free(row)
    return torch.stack(made)


@settings(max_examples=30)
@given(steps=st.integers(1, 12), before=st.integers(1, 12), with_text=st.booleans(), seed=st.integers(0, 99))
def test_a_region_used_before_is_as_good_as_fresh(
    decoder: MusicGenDecoder, steps: int, before: int, with_text: bool, seed: int
) -> None:
    text = torch.randn(5, 12) if with_text else None
    used = KVCache(CONFIG, 12)
    used._arena.fill_(torch.nan)  # whatever is read without being written spoils everything
    logits_of(decoder, used, torch.randn(3, 12), before, seed + 1)
    assert torch.equal(
        logits_of(decoder, used, text, steps, seed), logits_of(decoder, KVCache(CONFIG, 12), text, steps, seed)
    )
    used.check_integrity()


def test_misuse_is_named_a_bug() -> None:
    cache = KVCache(CONFIG, 4)
    row = cache.allocate(3)
    with pytest.raises(AssertionError, match="can_allocate was not asked"):
        cache.allocate(2)
    view = cache.view([row])
    view.advance(torch.tensor([0]))
    with pytest.raises(AssertionError, match="is not next"):
        view.advance(torch.tensor([2]))
    with pytest.raises(AssertionError, match="2 positions for 1 rows"):
        view.advance(torch.tensor([1, 1]))
    view.advance(torch.tensor([0]))  # a failed step may be repeated
    view.advance(torch.tensor([1]))
    view.advance(torch.tensor([2]))
    with pytest.raises(AssertionError, match="was not reserved"):
        view.advance(torch.tensor([3]))
    cache.free(row)
    with pytest.raises(AssertionError, match="freed once"):
        cache.free(row)
    with pytest.raises(AssertionError, match="was freed"):
        view.advance(torch.tensor([2]))
    with pytest.raises(AssertionError, match="was freed"):
        cache.view([row])
    with pytest.raises(AssertionError, match="was freed"):
        cache.set_cross(row, [])


def test_the_integrity_check_sees_what_is_broken() -> None:
    for gaps, complaint in (
        ([(3, 4)], "belong to none"),
        ([(2, 6)], "two or none"),
        ([(4, 4)], "two or none"),
        ([(3, 2), (5, 3)], "touch"),
        ([(3, 0), (3, 5)], "empty"),
    ):
        cache = KVCache(CONFIG, 8)
        row = cache.allocate(3)
        cache.check_integrity()
        cache._gaps = gaps
        with pytest.raises(AssertionError, match=complaint):
            cache.check_integrity()
        cache._gaps = [(3, 5)]
        row.length = 4
        with pytest.raises(AssertionError, match="beyond its region"):
            cache.check_integrity()
