"""Two channels: where each stem is heard; and the tune of a piece alone, as somebody might hum or play it.

Drums and bass are in the middle, the harmony is on the left and the lead on the right, as on the first stereo records.
The sides are the same in every piece because a stereo MusicGen draws both channels of a codebook in the same step, and
neither sees the other: what may be on either side, such as a lead that changes it from piece to piece, would begin on
both or on none.
"""

from __future__ import annotations

import numpy as np

from models.tiny.composer.instruments import FRAME, Wave
from models.tiny.composer.render import play
from models.tiny.composer.score import STEMS, Piece, write

CHANNELS = 2
SIDES: dict[str, tuple[bool, bool]] = {
    "drums": (True, True), "bass": (True, True), "harmony": (True, False), "lead": (False, True),
}  # fmt: skip


def place(stems: Wave) -> Wave:
    """float32 [4 stems, samples] -> [2 channels, samples]; neither is louder than the mono mix."""
    heard = np.array([SIDES[stem] for stem in STEMS], dtype=np.float32)
    channels: Wave = heard.T @ stems
    return channels


def tune(piece: Piece, frames: int, timbre: str) -> Wave:
    """The lead's notes alone, on any instrument: float32 [frames * 640].

    Raises:
        ValueError: the piece has no lead.
    """
    if not piece.lead:
        raise ValueError(f"piece {piece.seed} has no lead")
    alone = np.zeros(frames * FRAME, dtype=np.float32)
    for event in write(piece, frames):
        if event.stem == "lead":
            play(event, alone, timbre)
    return alone
