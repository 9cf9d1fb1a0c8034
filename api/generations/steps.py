"""How many decoder steps a track takes: by arithmetic, as every length is known before the first of them.

A window samples one frame in each step. What is known of it before (a continuation's audio, what overlaps with the
window before, a melody's prefix) is worked through several positions at a time, as the engine does it.
"""

from __future__ import annotations

from models.catalog import ModelSpec
from models.config import MAX_DURATION_S
from models.engine.sequence import KNOWN_FRAMES_PER_TURN
from models.engine.windows import windows_of
from models.engine_config import EngineConfig
from models.types import DEFAULT_EXTEND_STRIDE_S, SamplingParams

WINDOW_S = MAX_DURATION_S
SHORTEST_STRIDE_S = 5.0
"""Every window computes its 30 s, however little of it is new, so that a second of music costs 30 / stride of them: six
with 5 s, where the default of 18 s costs 1.7. With less, one short track could ask for any amount of work."""
MELODY_PREFIX = 235
"""Positions before each window of a model that listens to melodies, whether it is given one or not."""
_FILLED_ROWS = EngineConfig().prefill_rows


def frames_of(duration_s: float, spec: ModelSpec) -> int:
    return int(duration_s * spec.frame_rate)


def is_windowed(duration_s: float, spec: ModelSpec) -> bool:
    """Whether a track is longer than what the model knows at a time."""
    return frames_of(duration_s, spec) > frames_of(WINDOW_S, spec)


def steps_of(
    duration_s: float,
    spec: ModelSpec,
    sampling: SamplingParams,
    *,
    known_frames: int = 0,
    extend_stride_s: float | None = None,
) -> int:
    """Decoder steps of one track that has the engine for itself.

    Args:
        known_frames: of the audio that it goes on from; fewer than the track has, and than a window.
        extend_stride_s: seconds between windows; None: the default.
    """
    largest_delay = spec.num_codebooks // spec.channels - 1
    rows = 1 if sampling.guidance <= 1 else 2 if spec.style is None else 3
    filled = max(1, _FILLED_ROWS // rows)
    prefix = MELODY_PREFIX if spec.takes_melody else 0 if spec.style is None else spec.style.longest
    frames, longest = frames_of(duration_s, spec), frames_of(WINDOW_S, spec)
    stride = frames_of(DEFAULT_EXTEND_STRIDE_S if extend_stride_s is None else extend_stride_s, spec)
    steps = sum(
        -(-(window.known + prefix) // filled) + window.frames - window.known + largest_delay
        for window in windows_of(frames, known_frames, longest, stride)
    )
    return max(steps, -(-frames // KNOWN_FRAMES_PER_TURN))
