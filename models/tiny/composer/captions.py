"""What a person might say of a piece: varied wording, attributes in any order, some left out."""

from __future__ import annotations

import numpy as np

from models.tiny.composer.score import Piece

FAMILY_WORDS: dict[str, tuple[str, ...]] = {
    "piano": (
        "piano", "solo piano chords", "piano ballad", "acoustic piano", "a grand piano", "classical piano",
        "jazzy piano",
    ),
    "organ": ("organ", "church organ", "hammond organ", "gospel organ", "a warm organ", "reggae organ", "soul organ"),
    "strings": (
        "strings", "a string orchestra", "cinematic strings", "orchestral strings", "violins and cellos",
        "film score strings", "string ensemble",
    ),
    "bells": ("bells", "music box", "lullaby with bells", "celesta", "glockenspiel", "chimes", "ambient bells"),
    "synth": (
        "synth", "chiptune", "8-bit video game music", "retro synthesizer", "synthwave", "electronic synth",
        "square wave synth",
    ),
    "guitar": ("guitar", "acoustic guitar", "folk guitar", "plucked guitar", "classical guitar", "country guitar"),
}  # fmt: skip
DRUM_WORDS: dict[str, tuple[str, ...]] = {
    "none": ("no drums", "without drums", "drumless", "without percussion", "no percussion", "without any beat"),
    "four": ("four-on-the-floor drums", "house beat", "disco drums", "dance beat", "techno drums", "drums"),
    "rock": ("rock drums", "rock beat", "live drum kit", "driving rock drums", "drums", "with drums"),
    "hiphop": ("hip hop beat", "hip hop drums", "boom bap drums", "trap drums", "a laid-back drum groove", "drums"),
    "latin": ("latin drums", "bossa nova drums", "samba percussion", "latin groove", "drums", "with drums"),
}
TEMPO_WORDS: dict[int, tuple[str, ...]] = {
    5: ("very fast", "fast tempo", "fast", "energetic and fast"),
    6: ("upbeat", "lively tempo", "lively", "brisk"),
    7: ("mid-tempo", "moderate tempo", "medium tempo", "at a walking pace"),
    8: ("relaxed tempo", "laid-back tempo", "easygoing", "fairly slow"),
    9: ("slow", "slow tempo", "very slow", "calm and slow"),
}
MODE_WORDS = {
    "major": ("happy", "bright", "cheerful", "joyful", "major key"),
    "minor": ("sad", "dark", "melancholic", "moody", "minor key"),
}
LOUD_WORDS = {
    True: ("loud", "powerful", "full volume", "big"),
    False: ("soft", "quiet", "gentle", "very quiet", "softly played"),
}
BASS_WORDS: dict[str, tuple[str, ...]] = {
    "quarters": ("steady bass", "bass on every beat", "bass line"),
    "eighths": ("driving bass", "pumping eighth-note bass", "bass line"),
    "fifths": ("long bass notes", "root and fifth bass", "bass line"),
    "none": ("no bass", "without bass"),
}
LEAD_WORDS = {
    True: ("a catchy melody", "with a melody", "lead melody", "a tune on top"),
    False: ("no melody", "just the backing", "without melody"),
}
BUILD_WORDS = ("builds up slowly", "starts sparse and builds up", "instruments enter one by one")
_OPENINGS = ("", "", "", "", "a track with ", "music with ", "a piece of ", "play ", "make ", "give me ")
_LINKS = (", ", ", ", ", ", " and ", " with ", "; ")


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _tempo(piece: Piece, rng: np.random.Generator) -> str:
    bpm = round(piece.bpm)
    kind = rng.random()
    if kind < 0.35:
        return _pick(rng, TEMPO_WORDS[piece.sixteenth])
    number = bpm + int(rng.integers(-2, 3))  # "around": people do not name the exact figure
    return _pick(rng, (f"{number} bpm", f"at {number} bpm", f"tempo {number}", f"{bpm} beats per minute"))


def _key(piece: Piece, rng: np.random.Generator) -> str:
    name = piece.key.name
    return _pick(rng, (f"in {name}", name, f"in the key of {name}", f"in {name}"))


def _mode_and_key(piece: Piece, rng: np.random.Generator, keep: float) -> list[str]:
    parts = [_key(piece, rng)] if rng.random() < keep else []
    if rng.random() < 0.3:
        parts.append(_pick(rng, MODE_WORDS[piece.key.mode]))
    return parts


def caption(piece: Piece, rng: np.random.Generator) -> str:
    """A caption of the piece, lower case; each attribute is kept with a probability of its own."""
    detail = rng.random() ** 0.5  # a piece may be described fully or barely
    keep = 0.35 + 0.6 * detail
    parts = _mode_and_key(piece, rng, keep)
    choices: tuple[tuple[float, str], ...] = (
        (keep + 0.05, _pick(rng, FAMILY_WORDS[piece.family])),
        (keep, _tempo(piece, rng)),
        (keep, _pick(rng, DRUM_WORDS[piece.drums])),
        (keep, _pick(rng, LOUD_WORDS[piece.loud])),
        (keep * 0.5, _pick(rng, BASS_WORDS[piece.bass])),
        (keep * 0.5, _pick(rng, LEAD_WORDS[piece.lead])),
        (0.7 if piece.builds else 0.0, _pick(rng, BUILD_WORDS)),
    )
    parts += [words for probability, words in choices if rng.random() < probability]
    if not parts:
        parts = [_pick(rng, FAMILY_WORDS[piece.family])]
    order = rng.permutation(len(parts))
    text = _pick(rng, _OPENINGS) + str(parts[order[0]])
    for index in order[1:]:
        text += _pick(rng, _LINKS) + parts[index]
    return str(text)


def full_prompt(piece: Piece, rng: np.random.Generator) -> str:
    """A prompt that names everything the adherence table measures; used on held-out pieces only."""
    parts = [
        _pick(rng, FAMILY_WORDS[piece.family]), _key(piece, rng), _tempo(piece, rng),
        _pick(rng, DRUM_WORDS[piece.drums]), _pick(rng, LOUD_WORDS[piece.loud]),
    ]  # fmt: skip
    return ", ".join(parts[i] for i in rng.permutation(len(parts)))
