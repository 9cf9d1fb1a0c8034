"""Shares of GPUs: what fits and who goes first."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.packing import pack

SHARES = {"small": 0.25, "medium": 0.5, "large": 1.0, "tiny": 0.0}


def test_all_that_fits_is_packed_onto_the_fewest() -> None:
    packed = pack(SHARES, {"small": 4, "medium": 1, "large": 1, "tiny": 9}, 8)
    assert packed.replicas == {"small": 4, "medium": 1, "large": 1, "tiny": 9}
    assert (packed.gpus, packed.free) == (3, 0.5)


def test_three_sizes_that_add_up_to_one_fill_a_gpu() -> None:
    packed = pack({"a": 0.3, "b": 0.3, "c": 0.4}, {"a": 1, "b": 1, "c": 1}, 1)
    assert (packed.gpus, packed.free) == (1, 0.0)


def test_when_there_are_too_few_every_size_gets_one_before_any_gets_two() -> None:
    packed = pack(SHARES, {"large": 5, "medium": 5, "small": 5}, 2, order=("large", "medium", "small"))
    assert packed.replicas == {"large": 1, "medium": 1, "small": 2}
    assert packed.free == 0.0


@pytest.mark.parametrize(("shares", "wanted"), [({"a": 1.5}, {"a": 1}), ({"a": 0.5}, {"a": -1}), ({}, {"a": 1})])
def test_what_cannot_be_is_refused(shares: dict[str, float], wanted: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        pack(shares, wanted, 1)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.tuples(st.floats(0.05, 1), st.integers(0, 12))),
    st.integers(0, 10),
)
def test_no_gpu_is_filled_twice_and_nothing_is_left_out_that_fits(
    models: dict[str, tuple[float, int]], gpus: int
) -> None:
    shares = {name: share for name, (share, _) in models.items()}
    wanted = {name: number for name, (_, number) in models.items()}
    packed = pack(shares, wanted, gpus)
    used = sum(shares[name] * number for name, number in packed.replicas.items())
    assert used <= packed.gpus + 1e-3
    assert packed.gpus <= gpus
    assert all(0 <= packed.replicas[name] <= wanted[name] for name in wanted)
    if gpus >= math.ceil(11 / 9 * sum(share * number for share, number in models.values()) + 1) * 2:
        assert packed.replicas == wanted
