"""Music that new tracks are to sound like: what of it is heard, decided when a call is accepted, told with its result.

An excerpt is heard, from where the track's seed says: an engine draws it, and here it is drawn again to be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from api.formats.resample import resampled_length
from api.generations.steps import WINDOW_S, frames_of
from api.generations.view import GenerationView
from api.uploads.reference import Reference
from models.catalog import ModelSpec
from models.engine.windows import windows_of
from models.errors import InvalidRequestError
from models.style_config import SHORTEST_EXCERPT_S
from models.style_excerpt import excerpt_start
from models.types import DEFAULT_EXTEND_STRIDE_S

STYLE: Final = "style"
SOURCE: Final = "style_source"
"""Where a generation's ``conditioning`` says where it lies, as of a melody."""
EXCERPT: Final = "style_excerpt"
STREAMS: Final = "style_streams"
_FRAMES: Final = "style_frames"
LONGEST_STYLE_S = 120.0
"""A replica is sent it with each track: 15 MB of samples."""


def check(wanted: Mapping[str, Any], spec: ModelSpec) -> None:
    """
    Raises:
        InvalidRequestError: something is said of how a style is heard and there is none, or the model can not hear that
            much of it.
    """
    for name in (EXCERPT, STREAMS):
        if name in wanted and STYLE not in wanted:
            raise InvalidRequestError(f"{name} says how a style is heard, and there is none: leave it out", name)
    if spec.style is not None and wanted.get(STREAMS, 1) > spec.style.streams:
        raise InvalidRequestError(f"{STREAMS} must be at most {spec.style.streams} for this model", STREAMS)


def accepted(wanted: Mapping[str, Any], reference: Reference, spec: ModelSpec, known_frames: int) -> dict[str, Any]:
    """What is kept of how it is heard.

    Raises:
        InvalidRequestError: it is too long, too short or silent.
    """
    assert spec.style is not None, "the model was asked before: this is a bug"
    if not SHORTEST_EXCERPT_S <= reference.duration_s <= LONGEST_STYLE_S:
        raise InvalidRequestError(
            f"the style is {reference.duration_s:g} s long, it must be {SHORTEST_EXCERPT_S:g} to {LONGEST_STYLE_S:g} s",
            STYLE,
        )
    if reference.is_silent:
        raise InvalidRequestError("the style is silent: there is nothing to sound like", STYLE)
    frames = {"known": known_frames, "window": frames_of(WINDOW_S, spec), "rate": spec.frame_rate}
    return {
        EXCERPT: wanted.get(EXCERPT, spec.style.excerpt_s),
        STREAMS: wanted.get(STREAMS, spec.style.heard_streams),
        _FRAMES: frames,
    }


def excerpts(view: GenerationView) -> tuple[float, list[list[float]]] | None:
    """What is heard: its length, and for each track where each of its windows begins to hear, all in seconds of the
    style; None: there is none."""
    kept = view.conditioning
    if not kept or STYLE not in kept:
        return None
    source, frames = kept[SOURCE], kept[_FRAMES]
    rate: int = source["wanted_rate"]
    samples = resampled_length(source["total_samples"], source["sample_rate"], rate)
    length = min(int(kept[EXCERPT] * rate), samples)
    stride = DEFAULT_EXTEND_STRIDE_S if view.extend_stride_s is None else view.extend_stride_s
    total, window = int(view.duration_s * frames["rate"]), frames["window"]
    is_long, hop = total > window, rate // frames["rate"]
    starts = [each.start for each in windows_of(total, frames["known"], window, int(stride * frames["rate"]))]

    def of_window(seed: int, first: int) -> float:
        room = window * hop - length if is_long else samples - length
        offset = first * hop if is_long else 0
        return round((offset + excerpt_start(seed, first, room)) % samples / rate, 3)

    return length / rate, [[of_window(track.seed, first) for first in starts] for track in view.tracks]
