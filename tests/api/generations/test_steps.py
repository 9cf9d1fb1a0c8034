"""The steps that a track is counted with are those that an engine takes for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.generations.steps import SHORTEST_STRIDE_S, steps_of
from models.engine.sequence import Sequence
from models.engine.windows import windows_of
from models.engine_config import EngineConfig
from models.style_config import MertConfig, StyleConfig
from models.types import GenerationRequest, SamplingParams
from tests.api.fakes import spec

GUIDED, PLAIN = SamplingParams(), SamplingParams(guidance=1.0)
TINY = spec()


def taken(duration_s: float, known: int, stride_s: float, sampling: SamplingParams) -> int:
    """Steps of a track that is alone in an engine, by the engine's own account."""
    frames, request = int(duration_s * 50), GenerationRequest("r", "x", duration_s, sampling=sampling)
    sequence = Sequence[int](request, frames, 3, windows=windows_of(frames, known, 1500, int(stride_s * 50)))
    sequence.fill_share = EngineConfig().prefill_rows // sequence.num_rows
    return sequence.remaining_steps


@pytest.mark.parametrize("sampling", [GUIDED, PLAIN])
@pytest.mark.parametrize(
    ("duration_s", "known", "stride_s"),
    [(1.0, 0, 18.0), (30.0, 0, 18.0), (30.0, 1499, 18.0), (31.0, 1500, 18.0), (60.0, 0, 18.0), (75.5, 100, 29.0),
     (100.0, 0, SHORTEST_STRIDE_S)],
)  # fmt: skip
def test_they_are_those_of_the_engine(duration_s: float, known: int, stride_s: float, sampling: SamplingParams) -> None:
    counted = steps_of(duration_s, TINY, sampling, known_frames=known, extend_stride_s=stride_s)
    assert counted == taken(duration_s, known, stride_s, sampling)


@pytest.mark.parametrize(("channels", "codebooks"), [(1, 4), (2, 8)])
def test_of_one_window_they_are_frames_and_the_delay_of_the_last_codebook(channels: int, codebooks: int) -> None:
    assert steps_of(1.0, replace(spec(channels=channels), num_codebooks=codebooks), GUIDED) == 53


def test_no_stride_makes_a_track_twice_as_long() -> None:
    plain = 600 * 50
    assert steps_of(600.0, TINY, GUIDED) < 1.1 * plain
    assert steps_of(600.0, TINY, GUIDED, extend_stride_s=SHORTEST_STRIDE_S) < 1.7 * plain


def test_a_model_that_listens_to_melodies_has_more_to_work_through() -> None:
    listening = replace(TINY, takes_melody=True)
    assert steps_of(1.0, listening, GUIDED) == 53 + 8  # 235 positions, 32 at a time
    assert steps_of(1.0, listening, PLAIN) == 53 + 4


def test_a_model_that_takes_styles_has_three_rows_and_a_little_more_to_work_through() -> None:
    listening = replace(TINY, style=StyleConfig(MertConfig()))
    rows = EngineConfig().prefill_rows
    assert steps_of(1.0, listening, GUIDED) == 53 + -(-23 // (rows // 3))
    assert steps_of(1.0, listening, PLAIN) == 53 + -(-23 // rows)
