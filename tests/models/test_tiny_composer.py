"""The composer: deterministic, periodic where the codec needs it, and honest in its captions."""

from __future__ import annotations

import numpy as np
import pytest

from models.tiny.composer import captions
from models.tiny.composer.instruments import FAMILIES, FRAME, note
from models.tiny.composer.render import render
from models.tiny.composer.score import DRUM_STYLES, SIXTEENTHS, STEMS, draw_piece, write
from models.tiny.composer.theory import KEYS, frequency_hz, triad
from models.tiny.training import analysis
from models.tiny.training.evaluate import original


@pytest.mark.parametrize("midi", range(40, 92))
def test_tuning_stays_near_equal_temperament_and_on_the_grid(midi: int) -> None:
    frequency = frequency_hz(midi)
    cents = 1200 * np.log2(frequency / (400.0 * 2 ** ((midi - 67) / 12)))
    assert abs(cents) < 14
    assert frequency < 195 or frequency % 6.25 == 0


def test_a_held_note_repeats_with_the_codec_frames() -> None:
    wave = note("organ", 72, 40)
    later = wave[8 * FRAME : 12 * FRAME]
    np.testing.assert_allclose(later, wave[4 * FRAME : 8 * FRAME], atol=1e-4)


def test_the_same_seed_makes_the_same_piece_and_another_seed_another() -> None:
    first, again, other = (render(draw_piece(seed), 200) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_shorter_rendering_is_the_start_of_a_longer_one() -> None:
    piece = draw_piece(5)
    np.testing.assert_array_equal(render(piece, 300)[:, : 100 * FRAME], render(piece, 100))


@pytest.mark.parametrize("seed", range(15))
def test_no_piece_clips_or_falls_silent(seed: int) -> None:
    checks = analysis.validity(original(draw_piece(seed), 600))
    assert checks.peak < 1.0
    assert checks.ok


def test_stems_keep_to_their_part() -> None:
    pieces = [draw_piece(seed) for seed in range(60)]
    for piece in pieces:
        stems = {event.stem for event in write(piece, 1500)}
        assert ("drums" in stems) == (piece.drums != "none")
        assert ("lead" in stems) == piece.lead
        assert ("bass" in stems) == (piece.bass != "none")
        assert stems <= set(STEMS)


def test_every_attribute_is_drawn() -> None:
    pieces = [draw_piece(seed) for seed in range(400)]
    assert {piece.family for piece in pieces} == set(FAMILIES)
    assert {piece.key for piece in pieces} == set(KEYS)
    assert {piece.sixteenth for piece in pieces} == set(SIXTEENTHS)
    assert {piece.drums for piece in pieces} == set(DRUM_STYLES)
    assert 0.03 < np.mean([piece.is_held_out for piece in pieces]) < 0.2


def test_triads_have_three_notes_of_one_octave() -> None:
    assert triad(0, "maj") == (67, 72, 76)  # C major folded into G4..F#5
    for root in range(12):
        notes = triad(root, "min")
        assert len(set(notes)) == 3
        assert min(notes) >= 67
        assert max(notes) <= 78


def test_captions_say_only_what_is_true_and_vary() -> None:
    piece = next(p for p in map(draw_piece, range(999)) if p.drums == "none" and p.family == "piano")
    texts = {captions.caption(piece, np.random.default_rng(seed)) for seed in range(200)}
    assert len(texts) > 150
    for words in (*captions.FAMILY_WORDS["organ"], *captions.FAMILY_WORDS["synth"], "rock", "hip hop"):
        assert not any(words in text for text in texts)
    assert any("drums" not in text and "percussion" not in text and "beat" not in text for text in texts)


def test_the_analysis_hears_tempo_and_drums_in_originals() -> None:
    pieces = [draw_piece(seed) for seed in range(20)]
    waves = [original(piece, 500) for piece in pieces]
    heard = [abs(analysis.tempo_bpm(wave) / piece.bpm - 1) < 0.08 for wave, piece in zip(waves, pieces, strict=True)]
    assert np.mean(heard) >= 0.9
    assert [analysis.has_drums(wave) for wave in waves] == [piece.drums != "none" for piece in pieces]
