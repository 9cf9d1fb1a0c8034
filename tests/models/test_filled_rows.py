"""Known positions, many at once and beside rows that sample, are the same to the last bit as one at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.checkpoint import Checkpoint, load_checkpoint
from models.kernels.cpu import build as building
from models.kernels.cpu.library import kernel
from models.musicgen.cpu_decoder import CpuDecoder
from models.musicgen.decoder import INVARIANT_ROWS, MusicGenDecoder
from models.musicgen.interface import StepDecoder
from tests.factories import make_checkpoint

DECODERS = ["torch", *(f"{variant} {weights}" for variant in building.VARIANTS for weights in ("fp32", "bf16", "int8"))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = make_checkpoint(tmp_path_factory.mktemp("filled"), hidden=64, layers=2, heads=4, ffn=128, seed=5)
    return load_checkpoint(folder)


def decoder_of(name: str, checkpoint: Checkpoint) -> StepDecoder:
    if name == "torch":
        return MusicGenDecoder.from_checkpoint(checkpoint, row_multiple=INVARIANT_ROWS)
    variant, weights = name.split()
    return CpuDecoder.from_checkpoint(checkpoint, weights, kernel(variant))


def random_codes(steps: int, seed: int = 0) -> Tensor:
    return torch.randint(65, (steps, 4), generator=torch.Generator().manual_seed(seed))


class Batch:
    """Three rows of one cache: the first with a text, the others without."""

    def __init__(self, decoder: StepDecoder, length: int) -> None:
        self.decoder = decoder
        self.cache = decoder.new_cache(3 * length + 48, 3)
        self.rows = [self.cache.allocate(length) for _ in range(3)]
        text = torch.randn(9, 32, generator=torch.Generator().manual_seed(1))
        self.cache.set_cross(self.rows[0], decoder.cross_kv(decoder.project_text(text)))

    def step(self, sampled: dict[int, int], codes: list[Tensor], filled: dict[int, range] | None = None) -> Tensor:
        """Logits of the sampled rows; both name a row and its position or positions."""
        places = list(sampled.items())
        places += [(row, position) for row, some in (filled or {}).items() for position in some]
        handles = [self.rows[row] for row, _ in places]
        view = self.cache.view(handles[: len(sampled)], handles[len(sampled) :])
        lines = torch.stack([codes[row][position] for row, position in places])
        positions = torch.tensor([position for _, position in places])
        return self.decoder.forward_step(lines, positions, view).clone()


@pytest.mark.parametrize("name", DECODERS)
@torch.inference_mode()
def test_filled_in_chunks_beside_others_is_the_same_to_the_last_bit(name: str, checkpoint: Checkpoint) -> None:
    """Rows 0 and 1 are filled by chunks of any size while row 2 samples; then all three sample."""
    decoder = decoder_of(name, checkpoint)
    length, known = 60, 37
    codes = [random_codes(length, seed) for seed in range(3)]
    alone = Batch(decoder, length)
    wanted = [torch.cat([alone.step({row: p}, codes) for p in range(length)]) for row in range(3)]
    batch, done, turn = Batch(decoder, length), 0, 0
    for chunk in (1, 5, 16, 2, 13):
        made = batch.step({2: turn}, codes, {row: range(done, done + chunk) for row in (0, 1)})
        assert made.shape[0] == 1, "nobody asked for the logits of what is known"
        assert torch.equal(made[0], wanted[2][turn])
        done, turn = done + chunk, turn + 1
    assert done == known
    for step in range(known, length):
        made = batch.step({0: step, 1: step, 2: turn}, codes)
        for row, position in ((0, step), (1, step), (2, turn)):
            assert torch.equal(made[row], wanted[row][position]), f"row {row} at {position}"
        turn += 1


@pytest.mark.parametrize("name", ["torch", "native bf16"])
@torch.inference_mode()
def test_a_row_that_begins_anew_keeps_its_text_and_nothing_else(name: str, checkpoint: Checkpoint) -> None:
    decoder = decoder_of(name, checkpoint)
    first, second = random_codes(30, 7), random_codes(30, 8)
    fresh, used = Batch(decoder, 32), Batch(decoder, 32)
    wanted = torch.cat([fresh.step({0: p}, [second]) for p in range(30)])
    for position in range(30):
        used.step({0: position}, [first])
    used.cache.rewind(used.rows[0])
    assert used.step({}, [second], {0: range(20)}).shape[0] == 0
    made = torch.cat([used.step({0: p}, [second]) for p in range(20, 30)])
    assert torch.equal(made, wanted[20:])
    used.cache.check_integrity()


@torch.inference_mode()
def test_positions_out_of_order_are_a_bug(checkpoint: Checkpoint) -> None:
    batch, codes = Batch(decoder_of("torch", checkpoint), 8), [random_codes(8)]
    with pytest.raises(AssertionError, match="not next"):
        batch.step({}, codes, {0: range(1, 3)})
    with pytest.raises(AssertionError, match="was not reserved"):
        batch.step({}, [random_codes(9)], {0: range(9)})
