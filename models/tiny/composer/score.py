"""A piece is a set of attributes and, derived from them and a seed, the events of four stems.

Time is counted in codec frames (20 ms). A sixteenth note lasts a whole number of frames, so bars repeat exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.tiny.composer.instruments import FAMILIES
from models.tiny.composer.theory import KEYS, PROGRESSIONS, Key, bass_note, lead_notes, triad, warm

STEMS = ("drums", "bass", "harmony", "lead")
SIXTEENTHS = (5, 6, 7, 8, 9)  # frames in a sixteenth note: 150, 125, 107, 94, 83 beats a minute, never an octave apart
DRUM_STYLES = ("none", "four", "rock", "hiphop", "latin")
BARS_PER_SECTION = 4

_DRUMS: dict[str, dict[str, tuple[int, ...]]] = {
    "four": {"kick": (0, 4, 8, 12), "open": (2, 6, 10, 14), "snare": (4, 12)},
    "rock": {"kick": (0, 8, 10), "snare": (4, 12), "hat": (0, 2, 4, 6, 8, 10, 12, 14)},
    "hiphop": {"kick": (0, 3, 10), "snare": (4, 12), "hat": (0, 2, 4, 6, 8, 10, 12, 14)},
    "latin": {"kick": (0, 6, 8, 14), "snare": (3, 6, 12), "hat": tuple(range(16))},
}
_FILL = {"kick": (0, 8), "snare": (4, 12, 14, 15), "hat": (0, 2, 4, 6, 8, 10)}
# Each family plays its harmony its own way: block chords as (onset, length) in sixteenths, or arpeggios in eighths.
_BLOCKS: dict[str, tuple[tuple[tuple[int, int], ...], ...]] = {
    "piano": (((0, 4), (4, 4), (8, 4), (12, 4)), ((0, 6), (6, 6), (12, 4))),
    "organ": (((0, 16),), ((2, 2), (6, 2), (10, 2), (14, 2))),
    "strings": (((0, 16),), ((0, 8), (8, 8))),
}
_ARPEGGIOS: dict[str, tuple[tuple[int, ...], ...]] = {
    "bells": ((0, 1, 2, 1, 0, 1, 2, 1), (0, 2, 1, 2, 0, 2, 1, 2)),
    "synth": ((0, 1, 2, 1, 0, 1, 2, 1), (0, 0, 2, 1, 0, 0, 2, 1)),
    "guitar": ((0, 2, 1, 2, 0, 2, 1, 2), (2, 1, 0, 1, 2, 1, 0, 1)),
}
_BASS: dict[str, tuple[tuple[int, int, int], ...]] = {  # (onset, length, 0 = root or 7 = fifth)
    "quarters": ((0, 4, 0), (4, 4, 0), (8, 4, 0), (12, 4, 0)),
    "eighths": tuple((i, 2, 0) for i in range(0, 16, 2)),
    "fifths": ((0, 8, 0), (8, 8, 7)),
}
BASS_STYLES = (*_BASS, "none")
_LEAD_RHYTHMS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, 4), (4, 4), (8, 8)),
    ((0, 2), (2, 2), (4, 4), (8, 4), (12, 4)),
    ((0, 6), (6, 2), (8, 8)),
    ((0, 4), (6, 2), (8, 4), (12, 2), (14, 2)),
    ((0, 8), (8, 4), (12, 4)),
)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a caption can talk about, and the seed of everything it does not."""

    family: str
    key: Key
    sixteenth: int
    drums: str
    bass: str
    lead: bool
    loud: bool
    builds: bool
    seed: int

    @property
    def bpm(self) -> float:
        return 60 / (4 * self.sixteenth * 0.02)

    @property
    def bar(self) -> int:
        """Frames in a bar of 4/4."""
        return 16 * self.sixteenth

    @property
    def is_held_out(self) -> bool:
        """One combination of family, key, tempo and drums in ten is never trained on."""
        return (FAMILIES.index(self.family) * 7 + KEYS.index(self.key) * 3 + self.sixteenth * 11
                + DRUM_STYLES.index(self.drums) * 5) % 10 == 0  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """A sound: stem, first frame, length in frames, instrument (a timbre or a drum) and MIDI notes (none for drums)."""

    stem: str
    start: int
    frames: int
    instrument: str
    notes: tuple[int, ...]


def draw_piece(seed: int) -> Piece:
    """Draw the attributes of piece number ``seed``."""
    rng = np.random.default_rng([seed, 0])
    drums = "none" if rng.random() < 0.35 else DRUM_STYLES[1 + rng.integers(4)]
    return Piece(
        family=FAMILIES[rng.integers(len(FAMILIES))],
        key=KEYS[rng.integers(len(KEYS))],
        sixteenth=int(SIXTEENTHS[rng.integers(len(SIXTEENTHS))]),
        drums=drums,
        bass=BASS_STYLES[rng.choice(4, p=(0.3, 0.25, 0.3, 0.15))],
        lead=bool(rng.random() < 0.6),
        loud=bool(rng.random() < 0.6),
        builds=bool(rng.random() < 0.2),
        seed=seed,
    )


def write(piece: Piece, frames: int) -> Iterator[Event]:
    """The events of the first ``frames`` frames of a piece, stem by stem."""
    rng = np.random.default_rng([piece.seed, 1])
    progressions = PROGRESSIONS[piece.key.mode]
    progression = progressions[rng.integers(len(progressions))]
    pattern = int(rng.integers(2))
    motif = _motif(rng)
    for bar in range(-(-frames // piece.bar)):
        step, quality = progression[bar % len(progression)]
        root = (piece.key.tonic_class + step) % 12
        yield from _drum_bar(piece, bar)
        yield from _bass_bar(piece, bar, root)
        yield from _harmony_bar(piece, bar, root, triad(root, quality), pattern)
        yield from _lead_bar(piece, bar, motif, triad(root, quality))


def _enters(piece: Piece, bar: int, section: int) -> bool:
    """In a piece that builds up, a stem enters at its section; otherwise all play from the first bar."""
    return not piece.builds or bar >= section * BARS_PER_SECTION


def _event(
    piece: Piece, stem: str, bar: int, onset: int, length: int, instrument: str, notes: tuple[int, ...]
) -> Event:
    return Event(stem, bar * piece.bar + onset * piece.sixteenth, length * piece.sixteenth, instrument, notes)


def _drum_bar(piece: Piece, bar: int) -> Iterator[Event]:
    if piece.drums == "none":
        return
    fill = bar % BARS_PER_SECTION == BARS_PER_SECTION - 1
    for name, onsets in (_FILL if fill else _DRUMS[piece.drums]).items():
        for onset in onsets:
            yield _event(piece, "drums", bar, onset, 1, name, ())


def _bass_bar(piece: Piece, bar: int, root: int) -> Iterator[Event]:
    if piece.bass == "none" or not _enters(piece, bar, 1):
        return
    for onset, length, interval in _BASS[piece.bass]:
        yield _event(piece, "bass", bar, onset, length, "bass", (bass_note((root + interval) % 12),))


def _harmony_bar(piece: Piece, bar: int, root: int, notes: tuple[int, ...], pattern: int) -> Iterator[Event]:
    if piece.family in _BLOCKS:
        notes = warm(notes, root) if piece.family in ("strings", "organ") else notes
        for onset, length in _BLOCKS[piece.family][pattern]:
            yield _event(piece, "harmony", bar, onset, length, piece.family, notes)
        return
    for index, tone in enumerate(_ARPEGGIOS[piece.family][pattern]):
        yield _event(piece, "harmony", bar, 2 * index, 2, piece.family, (notes[tone],))


def _motif(rng: np.random.Generator) -> tuple[tuple[int, int, int], ...]:
    """Four bars of (onset, length, step of the scale walk), A B A C; repeated, they make a tune one can remember."""
    bars = []
    for _ in range(3):
        rhythm = _LEAD_RHYTHMS[rng.integers(len(_LEAD_RHYTHMS))]
        bars.append([(onset, length, int(rng.integers(-2, 3))) for onset, length in rhythm])
    order = (bars[0], bars[1], bars[0], bars[2])
    return tuple((16 * bar + onset, length, step) for bar, notes in enumerate(order) for onset, length, step in notes)


def _lead_bar(
    piece: Piece, bar: int, motif: tuple[tuple[int, int, int], ...], chord: tuple[int, ...]
) -> Iterator[Event]:
    if not piece.lead or not _enters(piece, bar, 2):
        return
    scale = lead_notes(piece.key)
    classes = {note % 12 for note in chord}
    middle = [index for index, note in enumerate(scale) if note % 12 in classes and note >= 76]
    place = middle[0] if middle else len(scale) // 2  # every bar starts from a chord tone, so the tune fits the harmony
    for onset, length, step in motif:
        if onset // 16 == bar % BARS_PER_SECTION:
            place = min(max(place + (step if onset % 16 else 0), 0), len(scale) - 1)
            yield _event(piece, "lead", bar, onset % 16, length, piece.family, (scale[place],))
