"""Score to sound: four stems that add up to the mix, mastered by fixed gains so that the sum stays linear."""

from __future__ import annotations

import numpy as np

from models.tiny.composer.instruments import FRAME, Wave, chord, drum
from models.tiny.composer.score import STEMS, Event, Piece, write

STEM_GAIN = {"drums": 0.38, "bass": 0.24, "harmony": 0.14, "lead": 0.16}
SOFT_GAIN = 0.35  # -9 dB: what a caption calls soft


def render(piece: Piece, frames: int) -> Wave:
    """Render a piece: float32 [4 stems, frames * 640]; the mix is the sum over stems, peak under 1.

    Sounds that start before the end and ring beyond it are cut there, as an excerpt is.
    """
    stems = np.zeros((len(STEMS), frames * FRAME), dtype=np.float32)
    for event in write(piece, frames):
        play(event, stems[STEMS.index(event.stem)], event.instrument)
    return stems if piece.loud else stems * np.float32(SOFT_GAIN)


def play(event: Event, onto: Wave, instrument: str) -> None:
    """Add a sound to a stem, float32 [samples], on that instrument."""
    wave = chord(instrument, event.notes, event.frames) if event.notes else drum(instrument)
    start = event.start * FRAME
    if start < onto.size:
        part = wave[: onto.size - start]
        onto[start : start + part.size] += STEM_GAIN[event.stem] * part
