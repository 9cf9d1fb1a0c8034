"""Rows with the same words listen to one text: computed once, held once, gone with the last of them."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.engine.engine import Engine
from models.errors import GenerationFailedError
from models.musicgen.kv_cache import KVCache
from models.musicgen.static_cache import StaticKVCache
from tests.models.engine_support import Track, assert_idle, collect, drive, request
from tests.models.gpu.test_kernels import CONFIG
from tests.models.test_engine_continuation import alone, codes_of, engine_of

ENGINES = pytest.mark.parametrize(
    ("decoder", "config"),
    [("torch", {}), ("kernel", {}), ("torch", {"graph": True, "run_ahead": 2})],
    ids=["torch", "kernel", "captured"],
)


def counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of every text whose keys and values are computed."""
    made, compute = [], engine._runner._decoder.cross_kv

    def cross_kv(projected: torch.Tensor) -> Any:
        made.append(len(projected))
        return compute(projected)

    monkeypatch.setattr(engine._runner._decoder, "cross_kv", cross_kv)
    return made


def assert_nothing_is_left(engine: Engine) -> None:
    engine.check_integrity()
    assert (engine._cache.num_rows, engine._cache._shared, engine._cache._prompts) == (0, {}, {})


@ENGINES
def test_one_text_for_all_who_say_the_same(
    decoder: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variations of one request, a stranger with the same words, another text, and one that comes when all are gone."""
    engine = engine_of(decoder, max_rows=10, **config)
    made = counted(engine, monkeypatch)
    same = [request(str(seed), "soft strings", frames=10 + seed, seed=seed) for seed in range(3)]
    stranger = request("stranger", "soft strings", frames=16, guidance=1.0, top_p=0.8)
    other = request("other", "fast techno", frames=14)
    tracks = drive(engine, {0: same, 4: [stranger, other]})
    assert len(made) == 2
    later = replace(same[0], request_id="later")
    tracks |= drive(engine, {0: [later]})
    assert len(made) == 3, "nothing is kept of who is gone"
    assert_nothing_is_left(engine)
    monkeypatch.undo()
    for item in (*same, stranger, other):
        np.testing.assert_array_equal(codes_of(tracks[item.request_id]), codes_of(alone(item, decoder, **config)))
    np.testing.assert_array_equal(codes_of(tracks["later"]), codes_of(tracks["0"]))


@ENGINES
def test_a_text_lives_as_long_as_any_of_its_rows(
    decoder: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is cancelled, the one who brought it first."""
    engine = engine_of(decoder, max_rows=6, **config)
    made = counted(engine, monkeypatch)
    first, second, third = (request(name, "soft strings", frames=30, seed=3) for name in ("a", "b", "c"))
    tracks: dict[str, Track] = {}
    engine.add(first)
    engine.add(second)
    for _ in range(3):
        collect(tracks, engine.step())
    engine.abort("a")
    engine.add(third)
    while engine.has_work:
        collect(tracks, engine.step())
        engine.check_integrity()
    assert len(made) == 1
    np.testing.assert_array_equal(codes_of(tracks["b"]), codes_of(tracks["c"]))
    assert_nothing_is_left(engine)


def test_a_text_that_fails_is_kept_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, item = engine_of(), request(frames=12)
    encode, calls = engine._runner._text.encode, iter(range(9))

    def fail_once(prompt: str) -> torch.Tensor:
        if next(calls) == 0:
            raise RuntimeError("out of ink")
        return encode(prompt)

    monkeypatch.setattr(engine._runner._text, "encode", fail_once)
    assert isinstance(drive(engine, {0: [item]})["r"].error, GenerationFailedError)
    assert_idle(engine)
    np.testing.assert_array_equal(codes_of(drive(engine, {0: [item]})["r"]), codes_of(alone(item)))


def test_memory_is_one_texts_and_is_freed() -> None:
    cache = KVCache(CONFIG, 20)
    rows = [cache.allocate(5) for _ in range(3)]
    for row in rows[:2]:
        cache.share_cross(row, "words", lambda: [(torch.randn(2, 3, 8), torch.randn(2, 3, 8))])
    cache.share_cross(rows[2], "other words", lambda: [(torch.randn(2, 4, 8), torch.randn(2, 4, 8))])
    cache.check_integrity()
    assert cache._cross[rows[0]] is cache._cross[rows[1]]
    keys = weakref.ref(cache._cross[rows[0]][0][0])
    cache.free(rows[0])
    assert keys() is not None
    cache.free(rows[1])
    assert keys() is None
    cache.check_integrity()
    assert list(cache._shared) == ["other words"]


def test_room_for_texts_is_taken_once() -> None:
    """Of captured steps, whose texts lie in an arena."""
    cache = StaticKVCache(CONFIG, 20, 10, "cpu", torch.float32)
    first, second, third = (cache.allocate(5) for _ in range(3))
    words = torch.randn(1, 2, 2, 6, 8)
    cache.share_cross(first, "words", lambda: words)
    cache.share_cross(second, "words", lambda: words)
    places = cache.view([first, second])
    assert places[0].text_start == places[1].text_start
    with pytest.raises(GenerationFailedError, match="text_positions"):
        cache.share_cross(third, "others", lambda: words)
    cache.free(first)
    cache.check_integrity()
    with pytest.raises(GenerationFailedError, match="text_positions"):
        cache.share_cross(third, "others", lambda: words)
    cache.free(second)
    cache.share_cross(third, "others", lambda: words)
    cache.check_integrity()


def test_misuse_is_named_a_bug() -> None:
    cache = KVCache(CONFIG, 10)
    row = cache.allocate(5)
    cache.share_cross(row, "words", list)
    with pytest.raises(AssertionError, match="has a text"):
        cache.share_cross(row, "words", list)
    with pytest.raises(AssertionError, match="has a text"):
        cache.set_cross(row, [])
    cache._shared["words"].rows = 2
    with pytest.raises(AssertionError, match="outlived its rows"):
        cache.check_integrity()
