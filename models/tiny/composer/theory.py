"""Keys, chords and the tuning grid of the composer's world.

Tuning: every sustained pitch is rounded to a multiple of 12.5 Hz (6.25 Hz below 400 Hz) around G4 = 400 Hz. A held
note then repeats exactly every 4 or 8 codec frames of 20 ms, so the same sound gives the same tokens. The price is at
most 14 cents of deviation from equal temperament. Bass notes are plucked, not held, and keep equal temperament.
"""

from __future__ import annotations

from dataclasses import dataclass

PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# Six major keys and their relative minors: 12 keys in all, so chance is 1/12.
MAJOR_TONICS = ("C", "D", "F", "G", "A", "A#")
MINOR_TONICS = ("A", "B", "D", "E", "F#", "G")
G4_HZ = 400.0
_G4 = 67  # MIDI number


@dataclass(frozen=True, slots=True)
class Key:
    """A tonic name from PITCH_CLASSES and a mode, "major" or "minor"."""

    tonic: str
    mode: str

    @property
    def tonic_class(self) -> int:
        return PITCH_CLASSES.index(self.tonic)

    @property
    def name(self) -> str:
        return f"{self.tonic.replace('A#', 'B flat').replace('F#', 'F sharp')} {self.mode}"


KEYS = tuple(Key(t, "major") for t in MAJOR_TONICS) + tuple(Key(t, "minor") for t in MINOR_TONICS)

# Progressions start on the tonic: (semitones above the tonic, quality), one chord a bar.
PROGRESSIONS: dict[str, tuple[tuple[tuple[int, str], ...], ...]] = {
    "major": (
        ((0, "maj"), (7, "maj"), (9, "min"), (5, "maj")),
        ((0, "maj"), (9, "min"), (5, "maj"), (7, "maj")),
        ((0, "maj"), (5, "maj"), (0, "maj"), (7, "maj")),
        ((0, "maj"), (5, "maj"), (7, "maj"), (5, "maj")),
        ((0, "maj"), (0, "maj"), (5, "maj"), (7, "maj")),
        ((0, "maj"), (9, "min"), (0, "maj"), (5, "maj")),
    ),
    "minor": (
        ((0, "min"), (8, "maj"), (3, "maj"), (10, "maj")),
        ((0, "min"), (5, "min"), (8, "maj"), (10, "maj")),
        ((0, "min"), (10, "maj"), (8, "maj"), (10, "maj")),
        ((0, "min"), (5, "min"), (0, "min"), (10, "maj")),
        ((0, "min"), (3, "maj"), (10, "maj"), (5, "min")),
        ((0, "min"), (0, "min"), (8, "maj"), (10, "maj")),
    ),
}
SCALES = {"major": (0, 2, 4, 7, 9), "minor": (0, 3, 5, 7, 10)}  # pentatonic: no sour notes over any of the chords
_TRIADS = {"maj": (0, 4, 7), "min": (0, 3, 7)}


def frequency_hz(midi: int) -> float:
    """The grid-tuned frequency of a MIDI note number."""
    tempered = float(G4_HZ * 2.0 ** ((midi - _G4) / 12))
    if tempered < 195:
        return tempered
    grid = 12.5 if tempered >= 395 else 6.25
    return float(round(tempered / grid) * grid)


def triad(root_class: int, quality: str) -> tuple[int, ...]:
    """The chord's three MIDI notes, folded into the octave G4..F#5 (close voicing, free inversion)."""
    return tuple(sorted(_G4 + (root_class + step - 7) % 12 for step in _TRIADS[quality]))


def warm(notes: tuple[int, ...], root_class: int) -> tuple[int, ...]:
    """The chord with its root doubled in the octave G3..F#4, for instruments that hold their notes."""
    return (_G4 - 12 + (root_class - 7) % 12, *notes)


def bass_note(pitch_class: int) -> int:
    """The pitch class in the octave E2..D#3."""
    return 40 + (pitch_class - 4) % 12


def lead_notes(key: Key) -> tuple[int, ...]:
    """The key's pentatonic notes between D5 and G6, low to high."""
    scale = {(key.tonic_class + step) % 12 for step in SCALES[key.mode]}
    return tuple(note for note in range(74, 92) if note % 12 in scale)
