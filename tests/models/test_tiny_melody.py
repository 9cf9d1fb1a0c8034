"""The stereo and melody model's training: what is heard where, the prefix, and runs that stop and go on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import MusicgenMelodyConfig, MusicgenMelodyForConditionalGeneration

from models.conditioning import chroma
from models.config import ModelConfig
from models.tiny.composer.instruments import FAMILIES, SAMPLE_RATE
from models.tiny.composer.render import render
from models.tiny.composer.score import STEMS, draw_piece, write
from models.tiny.composer.stereo import place, tune
from models.tiny.training import checkpointing, export_melody, fewer_codes, train_codec, train_melody
from models.tiny.training.codebooks import Codebooks, fit
from models.tiny.training.data import PieceStream
from models.tiny.training.evaluate_melody import StereoPlayer, follows, stereo_figures
from models.tiny.training.fewer_codes import FEWER, FewerCodes, nearest_survivors
from models.tiny.training.melody_data import StereoStream, null_melody
from models.tiny.training.melody_model import K, TinyMelody, melody_decoder_config
from models.tiny.training.objective import delayed
from models.tiny.training.text import build_tokenizer
from models.tiny.training.train_codec import codec_config
from models.tiny.training.train_decoder import TinyMusicGen
from models.tiny.training.train_text import text_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mono run's folder, of codebooks from few pieces and a decoder that has learnt nothing."""
    folder = tmp_path_factory.mktemp("melody")
    books = fit(pieces=12, frames=100, seed=0, per_stem=1_100)
    books.save(folder / "codebooks.npz")
    fewer_codes.choose(books, pieces=3, frames=100).save(folder / "fewer_codes.npz")
    build_tokenizer(200).save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    checkpointing.save(folder / "decoder.pt", {"model": TinyMusicGen().state_dict()})
    return folder


def test_drums_and_bass_are_in_the_middle_and_harmony_and_lead_apart() -> None:
    stems = np.eye(len(STEMS), dtype=np.float32)
    left, right = place(stems)
    assert [STEMS[i] for i in np.flatnonzero(left)] == ["drums", "bass", "harmony"]
    assert [STEMS[i] for i in np.flatnonzero(right)] == ["drums", "bass", "lead"]


def test_a_tune_has_the_pitch_classes_of_the_lead_on_every_instrument() -> None:
    piece = next(p for p in map(draw_piece, range(99)) if p.lead and not p.builds)
    event = next(e for e in write(piece, 400) if e.stem == "lead" and e.frames >= 30)
    middle = (event.start + event.frames // 2) * 640 // 4096
    heard = {int(chroma.tune(torch.from_numpy(tune(piece, 400, f)), SAMPLE_RATE)[middle]) for f in FAMILIES}
    assert heard == {event.notes[0] % 12}
    with pytest.raises(ValueError, match="has no lead"):
        tune(next(p for p in map(draw_piece, range(99)) if not p.lead), 100, "organ")


def test_codes_that_are_given_up_sound_as_their_nearest_neighbour() -> None:
    points = torch.tensor([[0.0], [1.0], [1.1], [5.0], [5.3], [9.0]])
    counts = torch.tensor([1.0, 9.0, 1.0, 2.0, 3.0, 1.0])
    free = torch.tensor([False, True, True, True, True, True])
    assert nearest_survivors(points, counts, free, 3).tolist() == [0, 1, 1, 4, 4, 5]


def test_half_of_the_codes_keep_silence_and_its_clock(runs: Path) -> None:
    books, fewer = Codebooks.load(runs / "codebooks.npz"), FewerCodes.load(runs / "fewer_codes.npz")
    assert fewer.kept.shape == (4, FEWER)
    for stem in range(4):
        silent = books.is_silence(stem).nonzero()[:, 0]
        assert torch.equal(fewer.kept[stem, fewer.new[stem, silent]], silent)
        assert fewer.new[stem, 0] == 0
        assert set(fewer.new[stem].tolist()) == set(range(FEWER))


def test_stereo_codes_are_the_same_in_the_middle_and_silent_on_the_far_side(runs: Path) -> None:
    books, fewer = Codebooks.load(runs / "codebooks.npz"), FewerCodes.load(runs / "fewer_codes.npz")
    stream = StereoStream(books, fewer, 0, timed=0.0)
    examples = [stream.next(60, melody=index % 2 == 0) for index in range(8)]
    for index, example in enumerate(examples):
        drums, bass, harmony, lead = example.codes.view(4, 2, -1)
        assert torch.equal(drums[0], drums[1])
        assert torch.equal(bass[0], bass[1])
        assert harmony[0].any()
        assert not harmony[1].any()
        assert not lead[0].any()
        assert example.melody.shape == (chroma.FRAMES,)
        assert bool(example.melody.any()) == (index % 2 == 0)
    mono = PieceStream(books, 0).next(60)
    assert torch.equal(examples[0].codes[::2][:3], fewer.translate(mono.codes)[:3])
    assert np.array_equal(place(render(mono.piece, 60))[0], mono.stems[:3].sum(0).numpy())
    timed = StereoStream(books, fewer, 0, timed=1.0).next(60, melody=False).codes
    assert len(set(timed[6].tolist())) > 20  # the side without the lead tells the time throughout


def test_the_prefix_is_transformers_own_for_every_row_of_a_padded_batch() -> None:
    torch.manual_seed(1)
    model = TinyMelody().eval()
    config = MusicgenMelodyConfig(
        text_encoder=text_config().to_dict(), audio_encoder=codec_config(FEWER).to_dict(),
        decoder=melody_decoder_config().to_dict(),
    )  # fmt: skip
    theirs = MusicgenMelodyForConditionalGeneration(config).eval()
    missing, unexpected = theirs.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("audio_encoder.") for name in missing)
    steps = delayed(torch.randint(FEWER, (3, K, 9)), FEWER, channels=2)[:, :, :-1]
    ids, lengths = torch.randint(3, 700, (3, 6)), (4, 6, 2)
    tokens = torch.arange(6) < torch.tensor(lengths)[:, None]
    melody = torch.randint(12, (3, chroma.FRAMES))
    keep = torch.tensor([True, False, True])
    with torch.inference_mode():
        ours, _ = model(steps, model.read(ids, tokens, keep), tokens, melody)
        shared, _ = model(steps, model.read(ids, tokens, keep), tokens, null_melody()[None])
        for row, length in enumerate(lengths):
            text = theirs.text_encoder(input_ids=ids[row : row + 1, :length]).last_hidden_state
            text = theirs.enc_to_dec_proj(text) * keep[row]
            for logits, tune in ((ours, melody[row]), (shared, null_melody())):
                features = torch.nn.functional.one_hot(tune, 12)[None].float()
                prefix = torch.cat([theirs.audio_enc_to_dec_proj(features), text], dim=1)
                wanted = theirs.decoder(input_ids=steps[row], encoder_hidden_states=prefix, use_cache=False).logits
                torch.testing.assert_close(logits[row], wanted[:, -steps.shape[2] :], atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def finished(runs: Path) -> Path:
    """Trained for a step, then finished by another, in a run that began with its state, into another file."""
    out, finished = runs / "melody.pt", runs / "finished.pt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_melody, "MIXTURE", ((0.5, 14, 3, False), (0.5, 20, 2, True)))
        _train(patch, runs, out, "--minutes", "1000")
        _train(patch, runs, finished, "--start", str(out), "--finish", "1000")
    return finished


def test_training_stops_goes_on_and_is_finished_into_another_file(runs: Path, finished: Path) -> None:
    before, after = (checkpointing.load_required(path) for path in (runs / "melody.pt", finished))
    assert (before["step"], after["step"]) == (1, 2)
    assert after["position"] > before["position"]
    head = "decoder.lm_heads.0.weight"
    assert not torch.equal(after["mean"][head], before["mean"][head])
    assert not torch.equal(after["mean"][head], after["model"][head])
    assert all(torch.isfinite(value).all() for value in after["mean"].values())


def test_a_finish_without_a_state_to_finish_is_refused(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _train(monkeypatch, runs, runs / "none.pt", "--finish", "1")
    assert "--finish needs --start" in capsys.readouterr().err


def _train(monkeypatch: pytest.MonkeyPatch, runs: Path, out: Path, *options: str) -> None:
    """The command, with a clock that jumps past every budget after one step."""
    monkeypatch.setattr(sys, "argv", ["train", "--runs", str(runs), "--out", str(out), *options])
    ticks = iter([0.0, 0.0])

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return next(ticks, 1e12)

    monkeypatch.setattr(train_melody, "time", Clock)
    train_melody.main()


def test_what_the_conditions_tell_is_measured_on_pieces_aside(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_melody, "ASIDE", 3)
    told = train_melody.MelodyTrainer(runs, seed=0).news()
    kinds = {f"{part} {kind}" for part in ("opening", "lead") for kind in ("all", "no text", "no melody")}
    assert set(told) == {*kinds, "astray"}
    assert all(value > 0 for value in told.values())


def test_the_exported_folder_is_read_sampled_and_judged(runs: Path, finished: Path, tmp_path: Path) -> None:
    codec = train_codec.CodecTrainer(Codebooks.load(runs / "codebooks.npz"), seed=0)
    checkpointing.save(runs / "codec.pt", codec.state(0.0))
    export_melody.export(runs, finished, tmp_path)
    config = ModelConfig.from_folder(tmp_path)
    assert (config.channels, config.decoder.num_codebooks, config.conditioners) == (2, K, ("melody", "text"))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 15.5e6
    player = StereoPlayer(tmp_path, runs)
    first, second = player.sample(["organ", "fast drums"], [null_melody()] * 2, 20, seed=0)
    assert first.codes.shape == second.codes.shape == (K, 20)
    assert first.channels.shape == (2, 20 * 640)
    figures = stereo_figures([player.original(draw_piece(3), 60)])
    assert figures["drums the same on both sides"] == figures["bass the same on both sides"] == 1
    assert player.lead(first).any()


def test_a_melody_follows_itself_and_not_another_key() -> None:
    pieces = [p for p in map(draw_piece, range(99)) if p.lead and not p.builds]
    one = tune(pieces[0], 300, "organ").astype(float)
    assert follows(tune(pieces[0], 300, "piano").astype(float), one) > 0.9
    assert np.mean([follows(tune(other, 300, "organ").astype(float), one) for other in pieces[1:9]]) < 0.4
