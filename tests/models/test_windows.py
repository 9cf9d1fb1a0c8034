"""The windows of a track are those of audiocraft, and a sequence's arithmetic on them is what the steps come to."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from models.engine.sequence import Sequence
from models.engine.windows import Window, windows_of
from models.types import GenerationRequest

DELAY = 3


def test_a_minute_is_three_windows() -> None:
    windows = windows_of(3000, 0, 1500, 900)
    assert windows == (Window(0, 1500), Window(900, 1500, 600), Window(1800, 1200, 600))
    assert [window.frames - window.known for window in windows] == [1500, 900, 600]


def test_one_window_is_the_track() -> None:
    assert windows_of(1500, 0, 1500, 900) == (Window(0, 1500),)
    assert windows_of(1500, 1499, 1500, 900) == (Window(0, 1500, 1499),)


def test_a_window_that_is_known_is_not_made() -> None:
    assert windows_of(3000, 1500, 1500, 900) == (Window(900, 1500, 600), Window(1800, 1200, 600))


def audiocraft(frames: int, known: int, longest: int, stride: int) -> list[tuple[int, int, int]]:
    """The loop of ``_generate_tokens``, with lists for tokens: start, length and prompt of every window."""
    track, windows, offset = list(range(known)), [], 0
    prompt = track
    while offset + len(prompt) < frames:
        length = min(frames - offset, longest)
        windows.append((offset, length, len(prompt)))
        made = prompt + list(range(offset + len(prompt), offset + length))
        track = track + made[len(prompt) :]
        prompt = made[stride:]
        offset += stride
    assert track == list(range(frames))
    return windows


@given(st.data())
def test_windows_are_audiocrafts(data: Any) -> None:
    longest = data.draw(st.integers(2, 60))
    stride = data.draw(st.integers(1, longest - 1))
    known = data.draw(st.integers(0, longest - 1))  # a whole window that is known, audiocraft refuses
    frames = data.draw(st.integers(known + 1, 400))
    ours = windows_of(frames, known, longest, stride)
    assert [(each.start, each.frames, each.known) for each in ours] == audiocraft(frames, known, longest, stride)


@given(st.data())
def test_steps_foretold_are_steps_taken(data: Any) -> None:
    """With the filling to itself, the turns until its last frame may be sound are exactly those announced."""
    longest = data.draw(st.integers(5, 60))
    stride = data.draw(st.integers(1, longest - 1))
    known = data.draw(st.integers(0, longest))
    frames = data.draw(st.integers(known + 1, 300))
    lag, share = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 20))
    windows = windows_of(frames, known, longest, stride)
    sequence = Sequence[int](GenerationRequest("r", "x", 1.0), frames, DELAY, lag, windows=windows, fill_share=share)
    foretold, turns, before = sequence.remaining_steps, 0, 0
    while before < frames:
        assert sequence.remaining_steps == foretold - turns
        left = sequence.unfilled_steps
        complete = sequence.frames_after(sequence.step + 1 - lag)
        assert before <= complete <= frames
        before = complete
        sequence.advance(min(left, share) if left else None)
        turns += 1
    assert turns == foretold
    assert sequence.positions == (min(windows[0].frames, longest) + DELAY,) * 2
