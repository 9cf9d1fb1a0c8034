"""Texts are reserved and given back with their rows; misuse is a bug that is seen."""

from __future__ import annotations

import pytest
import torch

from models.errors import GenerationFailedError
from models.musicgen.static_cache import StaticKVCache
from tests.models.gpu.test_kernels import CONFIG


def text(tokens: int) -> torch.Tensor:
    return torch.randn(1, 2, 2, tokens, 8)


def test_a_text_comes_and_goes_with_its_row() -> None:
    cache = StaticKVCache(CONFIG, 20, 10, "cpu", torch.float32)
    first, second, third = (cache.allocate(5) for _ in range(3))
    words = text(6)
    cache.set_cross(first, words)
    with pytest.raises(GenerationFailedError, match="text_positions"):
        cache.set_cross(second, text(5))
    cache.set_cross(third, text(4))
    place = cache.view([first])[0]
    assert torch.equal(cache.texts[0].keys[:, place.text_start : place.text_start + 6], words[0, 0])
    assert cache.view([second])[0].text_length == 0
    cache.free(first)
    cache.check_integrity()
    cache.set_cross(second, text(6))
    for row in (second, third):
        cache.free(row)
    cache.check_integrity()
    assert cache.free_positions == 20


def test_misuse_is_named_a_bug() -> None:
    cache = StaticKVCache(CONFIG, 20, 10, "cpu", torch.float32)
    row = cache.allocate(5)
    cache.set_cross(row, text(2))
    with pytest.raises(AssertionError, match="has a text"):
        cache.set_cross(row, text(2))
    cache.free(row)
    for misuse in (lambda: cache.free(row), lambda: cache.set_cross(row, text(1)), lambda: cache.view([row])):
        with pytest.raises(AssertionError, match="freed"):
            misuse()


def test_eight_bits_take_half_the_room_and_a_scale() -> None:
    cache = StaticKVCache(CONFIG, 20, 10, "cpu", torch.bfloat16, kv="int8")
    assert cache.layers[0].keys.dtype == torch.int8
    assert cache.texts[0].keys.dtype == torch.bfloat16
    scales = cache.layers[0].scales
    assert scales is not None
    assert scales.shape == (2, 2, 21)
