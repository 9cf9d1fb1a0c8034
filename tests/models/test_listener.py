"""The virtual player: when it starts, when its next chunk is due, and what a late one does to it."""

from __future__ import annotations

import pytest

from models.engine.listener import START_WITHIN_S, Listener
from models.engine.sequence import Sequence
from models.engine_config import EngineConfig
from models.types import GenerationRequest
from tests.models.engine_support import HOP, request, small_engine, small_model


def listener(prebuffer_s: float = 0.5, now_s: float = 100.0) -> Listener:
    return Listener.arriving(EngineConfig(prebuffer_s=prebuffer_s), 50, 4, now_s)


def test_the_beginning_is_a_deadline_too() -> None:
    assert listener().deadline_s == 100 + START_WITHIN_S


def test_the_player_starts_with_its_prebuffer() -> None:
    ear = listener()
    assert ear.hand_over(10, 100.3, is_last=False) == 0
    assert ear.deadline_s == pytest.approx(100 + START_WITHIN_S + 0.2), "it plays nothing yet"
    assert ear.hand_over(20, 100.9, is_last=False) == 0
    assert ear.is_playing
    assert ear.deadline_s == pytest.approx(100.9 + 0.6)


def test_a_track_shorter_than_the_prebuffer_plays_when_it_is_whole() -> None:
    ear = listener()
    ear.hand_over(10, 100.3, is_last=True)
    assert ear.is_playing


def test_without_a_prebuffer_the_first_chunk_starts_it() -> None:
    ear = listener(prebuffer_s=0)
    ear.hand_over(10, 100.3, is_last=False)
    assert ear.deadline_s == pytest.approx(100.5)


def test_a_late_chunk_stops_the_player_and_moves_later_deadlines() -> None:
    ear = listener(prebuffer_s=0)
    ear.hand_over(10, 100.0, is_last=False)
    assert ear.hand_over(20, 100.5, is_last=False) == pytest.approx(0.3)
    assert ear.deadline_s == pytest.approx(100.5 + 0.4)
    assert ear.hand_over(40, 100.6, is_last=False) == 0


def test_slack_is_time_to_spare_with_steps_in_real_time() -> None:
    ear = listener(prebuffer_s=0)
    ear.hand_over(50, 100.0, is_last=False)
    ear.look(100.2, steps_left=20)
    assert (ear.time_left_s, ear.pace_s(16), ear.slack_s) == pytest.approx((0.8, 0.04, 0.4))
    assert ear.pace_s(40) == pytest.approx(0.03), "the next chunk is in time sooner, but slack must last for 40 steps"
    ear.look(100.7, steps_left=20)
    assert ear.pace_s(40) == pytest.approx(0.3 / 20)


def test_it_knows_the_very_step_after_which_each_chunk_leaves() -> None:
    """The scheduler's arithmetic against the audio stage's chunks, to the track's end."""
    engine = small_engine()
    config = engine.config
    engine.add(request(frames=120))
    mirror = Sequence[int](GenerationRequest("m", "x", 2.4), 120, 3)
    mirror.listener = Listener.arriving(config, 50, small_model().codec.lookahead_frames, 0.0)
    while engine.has_work:
        outputs = engine.step()
        mirror.step += 1
        assert bool(outputs) == (mirror.steps_until_chunk == 0)
        for output in outputs:
            assert not isinstance(output.news, Exception)
            mirror.listener.hand_over(output.news.num_samples // HOP, 0.0, is_last=output.news.is_last)
    assert mirror.listener.sent == 120
