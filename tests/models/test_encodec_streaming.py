"""Streams: whatever the chunking, what comes out is the whole-clip decode, and comes out as early as it can."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from models.encodec.geometry import LOOKAHEAD_FRAMES, final_samples, lookahead_frames
from models.encodec.streaming import StreamingDecoder, decode_batch
from tests.models.codec_examples import Example, make_example, their_decode

HOP = 640


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=["reflect", "constant"])
def exact(request: pytest.FixtureRequest) -> Example:
    """The published geometry, in double precision."""
    return make_example(torch.float64, pad_mode=request.param)


@pytest.fixture(scope="module")
def small() -> Example:
    return make_example(num_filters=2)


def pieces(codes: Tensor, sizes: list[int]) -> list[Tensor]:
    """Split [K, F] into pieces of the given sizes, cycled."""
    out: list[Tensor] = []
    start = 0
    while start < codes.shape[1]:
        size = sizes[len(out) % len(sizes)]
        out.append(codes[:, start : start + size])
        start += size
    return out


def stream(example: Example, codes: Tensor, sizes: list[int]) -> Tensor:
    decoder = StreamingDecoder(example.ours, codes.shape[1])
    samples = torch.cat([decoder.push(piece) for piece in pieces(codes, sizes)])
    assert decoder.is_finished
    assert decoder.samples_emitted == samples.shape[0] == codes.shape[1] * example.ours.config.hop_length
    return samples


def test_look_ahead_of_the_published_geometry(small: Example) -> None:
    assert LOOKAHEAD_FRAMES == lookahead_frames(small.ours.config) == small.ours.lookahead_frames == 4
    for frames in (4, 5, 6, 100):
        assert final_samples(small.ours.config, frames) == HOP * (frames - 4) + 158
    assert final_samples(small.ours.config, 3) == 0


@pytest.mark.parametrize("overrides", [{}, {"upsampling_ratios": [5, 3], "num_residual_layers": 2, "kernel_size": 3}])
def test_final_samples_are_exactly_those_that_no_later_frame_changes(overrides: dict[str, Any]) -> None:
    example = make_example(torch.float64, **overrides)
    codes = example.random_codes(16)
    whole = their_decode(example, codes)[0, 0]
    for frames in (4, 5, 9):
        changed = codes.clone()
        changed[:, :, frames:] = (changed[:, :, frames:] + 1) % example.ours.config.codebook_size
        moved = (their_decode(example, changed)[0, 0] - whole).abs() > 1e-13
        assert int(moved.nonzero()[0]) == final_samples(example.ours.config, frames)


def test_frames_leave_as_soon_as_they_are_whole_and_final(small: Example) -> None:
    codes = small.random_codes(12)[0]
    decoder = StreamingDecoder(small.ours, 12)
    counts = [decoder.push(codes[:, frame : frame + 1]).shape[0] for frame in range(12)]
    assert counts == [0] * LOOKAHEAD_FRAMES + [HOP] * 7 + [HOP * (1 + LOOKAHEAD_FRAMES)]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 7, 8, 9, 25])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 10, 50])
def test_streamed_equals_transformers_in_double_precision(exact: Example, frames: int, size: int) -> None:
    codes = exact.random_codes(frames, seed=frames)
    whole = their_decode(exact, codes)[0, 0]
    torch.testing.assert_close(stream(exact, codes[0], [size]), whole, atol=1e-12, rtol=0)


@cache
def chunked_examples() -> tuple[Example, ...]:
    other: dict[str, Any] = {"upsampling_ratios": [3, 2], "num_residual_layers": 2}
    return make_example(num_filters=2), make_example(num_filters=2, pad_mode="constant", **other)


@settings(max_examples=40, deadline=None)
@given(frames=st.integers(1, 45), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_every_chunking_equals_the_whole_clip(frames: int, sizes: list[int], seed: int) -> None:
    for example in chunked_examples():
        codes = example.random_codes(frames, seed=seed)
        whole = example.ours.decode(codes)[0, 0]
        torch.testing.assert_close(stream(example, codes[0], sizes), whole, atol=1e-5, rtol=0)


def test_half_precision_streams_too(small: Example) -> None:
    half = Example(
        small.theirs, type(small.ours).from_state(small.ours.config, small.theirs.state_dict(), dtype=torch.bfloat16)
    )
    codes = small.random_codes(30)
    streamed, whole = stream(half, codes[0], [1, 4, 10]), small.ours.decode(codes)[0, 0]
    assert streamed.dtype == torch.float32
    assert (streamed - whole).pow(2).mean().sqrt() < 0.05 * whole.pow(2).mean().sqrt()


def test_a_frame_costs_the_same_wherever_it_is(small: Example) -> None:
    codes = small.random_codes(200)[0]
    decoder = StreamingDecoder(small.ours, 200)
    costs = []
    for frame in range(150):
        with FlopCounterMode(display=False) as counter:
            decoder.push(codes[:, frame : frame + 1])
        costs.append(counter.get_total_flops())
    assert costs[10] > 0
    assert set(costs[10:]) == {costs[10]}


def test_reset_equals_fresh(small: Example) -> None:
    codes = small.random_codes(9)[0]
    used = StreamingDecoder(small.ours, 20)
    used.push(small.random_codes(13, seed=1)[0])
    used.reset(9)
    fresh = StreamingDecoder(small.ours, 9)
    for piece in pieces(codes, [2, 5]):
        assert torch.equal(used.push(piece), fresh.push(piece))


def test_interleaved_streams_do_not_hear_each_other(small: Example) -> None:
    tracks = [small.random_codes(20, seed=seed)[0] for seed in range(3)]
    alone = [stream(small, track, [3]) for track in tracks]
    decoders = [StreamingDecoder(small.ours, 20) for _ in tracks]
    heard: list[list[Tensor]] = [[], [], []]
    for turn in zip(*(pieces(track, [3]) for track in tracks), strict=True):
        for index, piece in enumerate(turn):
            heard[index].append(decoders[index].push(piece))
    for index, parts in enumerate(heard):
        assert torch.equal(torch.cat(parts), alone[index])


def test_a_batch_equals_each_stream_alone(exact: Example) -> None:
    lengths, late = [3, 20, 20, 26, 31], [0, 0, 0, 4, 2]
    tracks = [exact.random_codes(length, seed=index)[0] for index, length in enumerate(lengths)]
    decoders = [StreamingDecoder(exact.ours, length) for length in lengths]
    heard: list[list[Tensor]] = [[] for _ in tracks]
    for turn in range(40):
        ready = [i for i in range(5) if turn >= late[i] and not decoders[i].is_finished]
        sizes = [1 + (turn + i // 3) % 3 for i in ready]
        codes = [tracks[i][:, (at := decoders[i].frames_pushed) : at + n] for i, n in zip(ready, sizes, strict=True)]
        for i, samples in zip(ready, decode_batch([decoders[i] for i in ready], codes), strict=True):
            heard[i].append(samples)
    for track, parts in zip(tracks, heard, strict=True):
        torch.testing.assert_close(torch.cat(parts), exact.ours.decode(track[None])[0, 0], atol=1e-12, rtol=0)


def test_an_empty_batch_is_nothing() -> None:
    assert decode_batch([], []) == []


def test_frames_past_the_end_are_refused_and_change_nothing(small: Example) -> None:
    codes = small.random_codes(8)[0]
    decoder = StreamingDecoder(small.ours, 8)
    first = decoder.push(codes[:, :6])
    with pytest.raises(ValueError, match="3 frames pushed, but only 2 of 8 are left"):
        decoder.push(codes[:, :3])
    rest = decoder.push(codes[:, 6:])
    assert torch.equal(torch.cat([first, rest]), stream(small, codes, [6]))
    with pytest.raises(ValueError, match="only 0 of 8 are left"):
        decoder.push(codes[:, :1])


def test_one_bad_member_changes_no_stream_of_a_batch(small: Example) -> None:
    codes = small.random_codes(8)[0]
    good, bad = StreamingDecoder(small.ours, 8), StreamingDecoder(small.ours, 8)
    special = torch.full((4, 5), small.ours.config.codebook_size)
    with pytest.raises(ValueError, match="codes must be in"):
        decode_batch([good, bad], [codes[:, :5], special])
    assert good.frames_pushed == bad.frames_pushed == 0
    assert torch.equal(good.push(codes), stream(small, codes, [8]))
    with pytest.raises(ValueError, match="only once per batch"):
        decode_batch([bad, bad], [codes[:, :1], codes[:, 1:2]])


def test_a_group_that_fails_leaves_the_streams_of_the_others_where_they_were(
    small: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = small.random_codes(8)[0]
    first, second = StreamingDecoder(small.ours, 8), StreamingDecoder(small.ours, 8)
    step = small.ours.step

    def failing(codes: Tensor, *rest: Any) -> Any:
        if codes.shape[2] == 3:
            raise RuntimeError("out of memory")
        return step(codes, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(small.ours, "step", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            decode_batch([first, second], [codes[:, :5], codes[:, :3]])
    assert first.frames_pushed == second.frames_pushed == 0
    whole = stream(small, codes, [8])
    torch.testing.assert_close(torch.cat([first.push(codes[:, :5]), first.push(codes[:, 5:])]), whole)


def test_a_clip_has_frames_and_a_push_too(small: Example) -> None:
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        StreamingDecoder(small.ours, 0)
    with pytest.raises(ValueError, match="frames >= 1"):
        StreamingDecoder(small.ours, 4).push(torch.zeros(4, 0, dtype=torch.long))
