"""An attempt at a long track that was cut short goes on in the window where it ended: the same tokens, one sound."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from models.engine.engine import Engine
from models.engine.windows import Window, windows_of
from models.engine_config import EngineConfig
from models.errors import InvalidRequestError
from models.types import AudioPrompt, CodePrompt, GenerationRequest
from tests.models.engine_support import Track, assert_idle, collect, drive, request, small_model

LONGEST = 40
"""Frames of a window, of which 24 are new in each after the first."""
TRACK = replace(request("long", "fast techno", frames=130, seed=3, top_k=20), extend_stride_s=24.01 / 50)
PLAIN = request("plain", frames=37, seed=8)


def engine_of(stereo: bool = False, **config: Any) -> Engine:
    pieces = {"first_chunk_s": 0.1, "max_chunk_s": 0.2}  # shorter than a window, as elsewhere
    settings: dict[str, Any] = {"return_codes": True, "num_threads": 1, "prefill_rows": 6, **pieces, **config}
    model = small_model(stereo, **settings)
    short = replace(model.config, max_duration_s=(LONGEST + 0.01) / 50)
    return Engine(replace(model, config=short), EngineConfig(**settings))


@cache
def undisturbed(stereo: bool = False) -> Track:
    track = drive(engine_of(stereo), {0: [TRACK]})[TRACK.request_id]
    assert track.is_complete
    return track


def finished(track: Track) -> list[CodePrompt]:
    return [chunk.finished for chunk in track.chunks if chunk.finished is not None]


def resumed(codes: CodePrompt) -> GenerationRequest:
    return replace(TRACK, resumes=codes)


def assert_same(track: Track, wanted: Track, num_codebooks: int = 4) -> None:
    assert track.error is None
    np.testing.assert_array_equal(track.codes(num_codebooks), wanted.codes(num_codebooks))
    np.testing.assert_allclose(track.pcm, wanted.pcm, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])
def test_each_window_that_is_finished_is_told_once(stereo: bool) -> None:
    whole, num_codebooks = undisturbed(stereo), 8 if stereo else 4
    told = finished(whole)
    assert [each.frames for each in told] == [40, 64, 88, 112]
    for each in told:
        codes = np.frombuffer(each.codes, "<i8").reshape(num_codebooks, -1)
        np.testing.assert_array_equal(codes, whole.codes(num_codebooks)[:, : each.frames])


def test_a_track_of_one_window_tells_nothing() -> None:
    assert finished(drive(engine_of(), {0: [PLAIN]})["plain"]) == []


def test_nothing_is_told_where_codes_are_not_wanted() -> None:
    track = drive(engine_of(return_codes=False), {0: [TRACK]})["long"]
    assert track.is_complete
    assert finished(track) == []


@pytest.mark.parametrize("config", [{}, {"graph": True, "run_ahead": 2}], ids=["ordinary", "captured"])
@pytest.mark.parametrize("border", range(4))
def test_it_goes_on_at_a_border_as_if_nothing_had_happened(border: int, config: dict[str, Any]) -> None:
    engine = engine_of(**config)
    again = drive(engine, {0: [PLAIN], 3: [resumed(finished(undisturbed())[border])]})["long"]
    assert_same(again, undisturbed())
    assert again.chunks[0].first_sample == 0, "its sound is all of it"
    assert [each.frames for each in finished(again)] == [40, 64, 88, 112][border + 1 :]
    assert_idle(engine)


def test_two_channels_go_on_as_well() -> None:
    again = drive(engine_of(stereo=True), {0: [resumed(finished(undisturbed(True))[1])]})["long"]
    assert_same(again, undisturbed(True), num_codebooks=8)


def test_what_is_finished_is_not_computed_again() -> None:
    """The rows of the last window, and nothing of the four before."""
    engine = engine_of()
    drive(engine, {0: [resumed(finished(undisturbed())[3])]})
    assert engine.stats().row_steps == 2 * (34 + 3)


def test_one_that_is_cut_short_at_any_step_goes_on_from_what_it_told() -> None:
    for steps in (75, 95, 140):
        engine, tracks = engine_of(), dict[str, Track]()
        engine.add(TRACK)
        for _ in range(steps):
            collect(tracks, engine.step())
        told = finished(tracks["long"])
        assert told, "a window is finished by then"
        again = drive(engine_of(), {0: [resumed(told[-1])]})["long"]
        assert_same(again, undisturbed())


def test_what_it_resumes_takes_the_place_of_what_it_continues() -> None:
    beginning = np.random.default_rng(5).integers(0, 64, (4, 11)).astype("<i8")
    item = replace(TRACK, continues=CodePrompt(beginning.tobytes(), 4))
    whole = drive(engine_of(), {0: [item]})["long"]
    again = drive(engine_of(), {0: [replace(item, continues=None, resumes=finished(whole)[1])]})["long"]
    assert_same(again, whole)
    np.testing.assert_array_equal(again.codes()[:, :11], beginning)


def test_codes_that_are_no_part_of_the_track_are_refused() -> None:
    codes = np.zeros((4, 130), "<i8")
    with pytest.raises(InvalidRequestError, match="ask for more"):
        engine_of().add(resumed(CodePrompt(codes.tobytes(), 4)))
    with pytest.raises(InvalidRequestError, match="another model"):
        engine_of().add(resumed(CodePrompt(codes.tobytes(), 8)))
    with pytest.raises(InvalidRequestError, match="from codes"):
        replace(TRACK, resumes=AudioPrompt(bytes(8), 1, 400))  # type: ignore[arg-type]


def test_windows_are_the_same_wherever_an_attempt_begins() -> None:
    whole = windows_of(1000, 0, 100, 60)
    for known in range(1, 1000):
        windows = windows_of(1000, known, 100, 60)
        first = windows[0]
        assert first.start <= known < first.start + first.frames
        assert [Window(each.start, each.frames) for each in windows] == [
            Window(each.start, each.frames) for each in whole[-len(windows) :]
        ]
        assert windows[1:] == whole[-len(windows) :][1:]
