"""The delay pattern: what stands where, and that undoing it is the inverse of laying it out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import MusicgenForCausalLM

from models.musicgen.delay import DelayPattern
from tests.factories import decoder_config

MONO, STEREO = (0, 1, 2, 3), (0, 0, 1, 1, 2, 2, 3, 3)


def test_a_short_track_by_hand() -> None:
    pattern = DelayPattern(MONO, frames=2)
    assert pattern.num_steps == 5
    laid_out = ["".join("·" if pattern.is_special(step, q) else "#" for step in range(6)) for q in range(4)]
    assert laid_out == ["·##···", "··##··", "···##·", "····##"]


@given(delays=st.lists(st.integers(0, 5), min_size=1, max_size=8), frames=st.integers(1, 40))
def test_undo_finds_every_code_where_the_pattern_puts_it(delays: list[int], frames: int) -> None:
    pattern = DelayPattern(delays, frames)
    codes = torch.arange(len(delays) * frames).view(len(delays), frames)
    steps = torch.full((pattern.num_steps, len(delays)), -1)
    for step in range(1, pattern.num_steps + 1):
        for q, delay in enumerate(delays):
            if not pattern.is_special(step, q):
                steps[step - 1, q] = codes[q, step - 1 - delay]
    assert torch.equal(pattern.undo(steps), codes)
    assert all(pattern.is_special(0, q) for q in range(len(delays)))
    assert all(pattern.is_special(pattern.num_steps + 1, q) for q in range(len(delays)))


@pytest.mark.parametrize("delays", [MONO, STEREO])
def test_the_pattern_is_the_one_of_transformers(delays: tuple[int, ...]) -> None:
    frames, special = 9, 64
    pattern = DelayPattern(delays, frames)
    model = MusicgenForCausalLM(decoder_config(16, 1, 2, 16, delays is STEREO, special))
    start = torch.full((len(delays), 1), special)
    _, mask = model.build_delay_pattern_mask(start, special, max_length=pattern.num_steps + 1)
    ours = [[pattern.is_special(step, q) for step in range(pattern.num_steps + 1)] for q in range(len(delays))]
    assert ours == (mask == special).tolist()


def test_steps_of_another_length_are_refused() -> None:
    with pytest.raises(AssertionError, match="bug"):
        DelayPattern(MONO, 4).undo(torch.zeros(4, 4))
    with pytest.raises(AssertionError, match="bug"):
        DelayPattern(MONO, 0)
