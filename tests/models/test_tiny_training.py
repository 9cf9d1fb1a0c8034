"""Every training command on a very small scale: it runs, its loss is finite, and a stopped run goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.tiny.training import checkpointing, codebooks, train_codec, train_decoder, train_encoder, train_text
from models.tiny.training.codebooks import CODEBOOK_SIZE, Codebooks, fit
from models.tiny.training.data import PieceStream
from models.tiny.training.losses import reconstruction_loss
from models.tiny.training.muon import orthogonalize
from models.tiny.training.objective import delayed
from models.tiny.training.text import build_tokenizer
from models.tiny.training.train_decoder import TinyMusicGen


@pytest.fixture(scope="module")
def books() -> Codebooks:
    return fit(pieces=30, frames=120, seed=0, per_stem=2_000)


@pytest.fixture(scope="module")
def saved_books(books: Codebooks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "codebooks.npz"
    books.save(path)
    return path


def test_codebooks_survive_a_file_and_code_zero_is_silence(books: Codebooks, saved_books: Path) -> None:
    example = PieceStream(books, 50).next(100)
    torch.testing.assert_close(Codebooks.load(saved_books).encode(example.stems), example.codes)
    assert int(books.encode(torch.zeros(4, 6400)).abs().max()) == 0
    assert int(example.codes.max()) < CODEBOOK_SIZE


def test_silence_tells_the_place_in_the_bar_and_stays_silent(books: Codebooks) -> None:
    sixteenth, codes = 6, torch.zeros(4, 200, dtype=torch.long)
    codes[0, 50] = 7
    timed = books.tell_time(codes, sixteenth)
    assert timed[0, 50] == 7
    assert torch.equal(timed[:, 100], timed[:, 100 - 16 * sixteenth])  # a bar later
    assert len(set(timed[1, : 16 * sixteenth].tolist())) == 16 * sixteenth
    assert not timed[2].any()  # the harmony has no clock
    embedding = train_codec.StemEmbedding(books)
    assert not embedding(timed[None])[:, :, :50].any()
    assert not torch.isin(books.encode(PieceStream(books, 70).next(300).stems)[0], books.clock[0]).any()


def test_the_stream_skips_held_out_pieces_and_resumes_at_its_position(books: Codebooks) -> None:
    stream = PieceStream(books, 0)
    first = [stream.next(20).piece for _ in range(8)]
    assert not any(piece.is_held_out for piece in first)
    position = stream.position
    assert PieceStream(books, position).next(20).piece == stream.next(20).piece


def test_reconstruction_loss_is_zero_for_the_target_and_finite_for_silence() -> None:
    target = torch.randn(2, 16_000) * 0.1
    target[1] = 0
    assert float(reconstruction_loss(target, target, log_weight=0.1)) == pytest.approx(0, abs=1e-4)
    noisy = (target + 0.01).requires_grad_()
    loss = reconstruction_loss(noisy, target)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert noisy.grad is not None
    assert torch.isfinite(noisy.grad).all()


def test_orthogonalize_brings_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalize(torch.randn(24, 60)))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_delay_pattern_of_the_training_data() -> None:
    codes = torch.arange(8).view(1, 4, 2) + 1
    steps = delayed(codes, CODEBOOK_SIZE)
    assert steps.shape == (1, 4, 6)
    assert steps[0, 0].tolist() == [CODEBOOK_SIZE, 1, 2, CODEBOOK_SIZE, CODEBOOK_SIZE, CODEBOOK_SIZE]
    assert steps[0, 3].tolist() == [CODEBOOK_SIZE] * 4 + [7, 8]


def test_a_dropped_condition_is_the_null_condition() -> None:
    torch.manual_seed(0)
    model = TinyMusicGen().eval()
    steps = delayed(torch.randint(CODEBOOK_SIZE, (1, 4, 6)), CODEBOOK_SIZE)[:, :, :-1]
    dropped = torch.tensor([False])
    with torch.inference_mode():
        one = model(steps, torch.tensor([[5, 6, 1]]), torch.ones(1, 3, dtype=torch.long), dropped)
        other = model(steps, torch.tensor([[9, 1]]), torch.ones(1, 2, dtype=torch.long), dropped)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("module", [train_codec, train_encoder, train_decoder])
def test_commands_train_stop_and_resume(
    module: object, saved_books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps each, then two more from the saved state: the step count and the data go on."""
    monkeypatch.setattr(train_codec, "CROP", 16)
    monkeypatch.setattr(train_encoder, "CROP", 16)
    monkeypatch.setattr(train_decoder, "MIXTURE", ((0.9, 20, 2), (0.1, train_decoder.FULL_CLIP, 1)))
    codec = tmp_path / "codec.pt"
    trainer = train_codec.CodecTrainer(Codebooks.load(saved_books), seed=0)
    checkpointing.save(codec, trainer.state(0.0))
    out = codec if module is train_codec else tmp_path / "out.pt"
    arguments = ["train", "--codebooks", str(saved_books), "--out", str(out)]
    if module is train_encoder:
        arguments += ["--codec", str(codec)]
    if module is train_decoder:
        arguments += ["--text", str(_text(tmp_path, monkeypatch))]
    budgets = [["--minutes", "1000"], ["--minutes", "2000"]]  # a longer budget goes on with a finished run
    if module is train_decoder:
        budgets += [["--minutes", "2000", "--finish", "1000"]]
    for expected, budget in zip((2, 4, 6), budgets, strict=False):
        _run_steps(module, [*arguments, *budget], monkeypatch, 2)
        state = checkpointing.load(out)
        assert state is not None
        assert state["step"] == expected
        assert all(torch.isfinite(value).all() for value in state["model"].values())


def _text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text encoder after three steps, with a tokenizer learnt from few captions."""
    build_tokenizer(200).save_pretrained(folder / "tokenizer")
    out = folder / "text.pt"
    monkeypatch.setattr(sys, "argv", ["train", "--out", str(out), "--steps", "3", "--batch", "4"])
    train_text.main()
    return out


def _run_steps(module: object, arguments: list[str], monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Run a training command whose clock jumps past the budget after ``steps`` steps."""
    monkeypatch.setattr(sys, "argv", arguments)
    ticks = iter([0.0, *np.zeros(steps).tolist()])

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return next(ticks, 1e12)

    monkeypatch.setattr(module, "time", Clock)
    monkeypatch.setattr(train_codec, "Pool", _small_pool)
    monkeypatch.setattr(train_encoder, "Pool", _small_pool)
    module.main()  # type: ignore[attr-defined]


def _small_pool(stream: PieceStream, size: int, frames: int, rng: np.random.Generator) -> object:
    from models.tiny.training.data import Pool

    return Pool(stream, min(size, 3), min(frames, 40), rng)


def test_codebook_command_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["codebooks", "--out", str(tmp_path / "books.npz"), "--pieces", "30"])
    monkeypatch.setattr(codebooks, "fit", lambda pieces, frames, seed: fit(pieces, 120, seed, per_stem=2_000))
    codebooks.main()
    assert len(Codebooks.load(tmp_path / "books.npz").stems) == 4
