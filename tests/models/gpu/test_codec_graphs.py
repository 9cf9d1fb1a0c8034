"""The captured codec gives what the codec gives, for any streams in any company; "captured" without a GPU: in place."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoint import load_checkpoint
from models.encodec.decoder import EncodecDecoder
from models.encodec.streaming import StreamingDecoder, decode_batch
from models.engine.capture import Capture
from models.engine.codec_graphs import STREAMS, GraphCodec
from models.engine.engine import Engine
from models.engine.loader import build_model
from models.engine_config import EngineConfig
from tests.factories import make_checkpoint
from tests.models.codec_examples import Example, make_example
from tests.models.engine_support import assert_idle, drive, request
from tests.models.test_engine_batching import VARIED, assert_same

CONFIG = EngineConfig(first_chunk_s=0.04, max_chunk_s=0.12)
LOOKAHEAD = make_example(num_filters=2, upsampling_ratios=[4, 2], sampling_rate=400).ours.lookahead_frames
FIRST = 2 + LOOKAHEAD
"""Pushes are of so many frames, then 4, 6, 6 …"""


@pytest.fixture(scope="module")
def example() -> Example:
    return make_example(num_filters=2, upsampling_ratios=[4, 2], sampling_rate=400)


@pytest.fixture(scope="module")
def captured(example: Example) -> GraphCodec:
    torch.set_num_threads(1)
    return GraphCodec.of(example.ours, CONFIG)


class Track:
    """One clip, decoded twice."""

    def __init__(self, example: Example, captured: GraphCodec, frames: int, seed: int) -> None:
        self.codes = example.random_codes(frames, seed=seed)[0]
        self.streams = [StreamingDecoder(codec, frames) for codec in (example.ours, captured)]
        self._sizes = [FIRST, 4]

    def next_codes(self) -> torch.Tensor:
        """As many as the chunks take, and at the end what is left."""
        size = self._sizes.pop(0) if self._sizes else 6
        begin = self.streams[0].frames_pushed
        return self.codes[:, begin : begin + size]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(1, 20))
def test_streams_that_share_replays_sound_as_they_do_without(
    seed: int, count: int, example: Example, captured: GraphCodec
) -> None:
    """Each begins, goes on and ends when it will; some pushes are the whole clip, some its last frame."""
    chance = random.Random(seed)
    waiting = [Track(example, captured, chance.randint(1, 40), seed + index) for index in range(count)]
    while waiting:
        some = chance.sample(waiting, chance.randint(1, len(waiting)))
        codes = [track.next_codes() for track in some]
        wanted, made = (decode_batch([track.streams[side] for track in some], codes) for side in (0, 1))
        for left, right in zip(made, wanted, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-5)
        waiting = [track for track in waiting if not track.streams[0].is_finished]


def test_pushes_of_the_usual_sizes_are_replayed_and_no_others(
    example: Example, captured: GraphCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    step = example.ours.step

    def spy(codes: torch.Tensor, state: object, last: bool) -> object:
        sizes.append((len(codes), codes.shape[2]))
        return step(codes, state, last)  # type: ignore[arg-type]

    monkeypatch.setattr(example.ours, "step", spy)
    streams = [StreamingDecoder(captured, 50) for _ in range(3)]
    for frames in (FIRST, 4, 6, 6):
        decode_batch(streams, [example.random_codes(frames)[0]] * 3)
    # Eager capture does the work through the codec: the batch is a captured one, 4, and never the 3 that there are.
    assert sizes == [(4, FIRST), (4, 4), (4, 6), (4, 6)]
    decode_batch(streams, [example.random_codes(5)[0]] * 3)
    decode_batch(streams, [example.random_codes(13)[0]] * 3)
    assert sizes[4:] == [(3, 5), (3, 13)]


def test_more_streams_than_a_replay_holds_are_decoded_in_parts(example: Example, captured: GraphCodec) -> None:
    count = STREAMS[0] + 3
    codes = [example.random_codes(FIRST, seed=index)[0] for index in range(count)]
    made, wanted = (
        decode_batch([StreamingDecoder(codec, 40) for _ in range(count)], codes) for codec in (captured, example.ours)
    )
    for left, right in zip(made, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


def test_an_engine_sounds_the_same_with_it(tmp_path: Path) -> None:
    """Everybody at once, stereo: 16 streams and more, that begin and end at different steps."""
    shape: dict[str, Any] = {"hidden": 32, "layers": 2, "heads": 4, "ffn": 64, "vocab": 64, "filters": 2}
    checkpoint = load_checkpoint(make_checkpoint(tmp_path, **shape, stereo=True, ratios=(4, 2)))
    config = EngineConfig(graph=True, run_ahead=2, return_codes=True, num_threads=1)
    codec = GraphCodec.of(EncodecDecoder.from_checkpoint(checkpoint), config)
    engine = Engine(dataclasses.replace(build_model(checkpoint, config), codec=codec), config)
    tracks = drive(engine, {0: VARIED, 5: [request("late", frames=60, seed=9)]})
    for item in VARIED:
        assert_same(tracks[item.request_id], item, stereo=True)
    assert_idle(engine)


def test_what_was_given_before_is_overwritten_so_that_copies_are_needed() -> None:
    """Or the tests here would prove nothing: a replay writes where the one before it wrote."""
    source = torch.zeros(2)
    again = Capture.of("cpu")(lambda: [source + 1])
    first = again()[0]
    source += 1
    assert again()[0] is first
    assert torch.equal(first, torch.full((2,), 2.0))
