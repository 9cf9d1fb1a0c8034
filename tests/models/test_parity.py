"""Greedy tokens equal transformers' ``generate``, one by one: a plain loop over the decoder, nothing of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from models.checkpoint import Checkpoint, load_checkpoint
from models.conditioning.text import TextConditioner
from models.musicgen.cpu_decoder import CpuDecoder
from models.musicgen.decoder import MusicGenDecoder
from models.musicgen.delay import DelayPattern
from models.musicgen.interface import StepDecoder
from tests.factories import make_checkpoint

FRAMES = 520  # 10.4 s
PROMPT = "a slow piano, with bass and drums"


class Ours:
    """The plainest generation there is."""

    def __init__(self, checkpoint: Checkpoint, decoder: StepDecoder) -> None:
        self.config = checkpoint.config.decoder
        self.decoder = decoder
        self.text = TextConditioner.from_checkpoint(checkpoint)

    @torch.inference_mode()
    def generate(self, prompt: str, frames: int, guidance: float) -> Tensor:
        """Greedy codes, int64 [K, frames]."""
        pattern = DelayPattern(self.config.delays, frames)
        rows = 2 if prompt and guidance > 1 else 1
        cache = self.decoder.new_cache(rows * pattern.num_steps, rows)
        handles = [cache.allocate(pattern.num_steps) for _ in range(rows)]
        if prompt:
            cache.set_cross(handles[0], self.decoder.cross_kv(self.decoder.project_text(self.text.encode(prompt))))
        return pattern.undo(self._steps(pattern, cache.view(handles), guidance))

    def _steps(self, pattern: DelayPattern, view: Any, guidance: float) -> Tensor:
        special = self.config.special_token
        codes = torch.full((len(self.config.delays),), special)
        steps = []
        for step in range(pattern.num_steps):
            positions = torch.full((view.num_rows,), step)
            logits = self.decoder.forward_step(codes.expand(view.num_rows, -1), positions, view)
            if view.num_rows == 2:
                logits = logits[1:] + (logits[:1] - logits[1:]) * guidance
            codes = logits[0].argmax(-1)
            for codebook in range(len(codes)):
                if pattern.is_special(step + 1, codebook):
                    codes[codebook] = special
            steps.append(codes)
        return torch.stack(steps)


@torch.inference_mode()
def theirs(folder: Path, prompt: str, frames: int, guidance: float) -> Tensor:
    """transformers' greedy codes, int64 [K, frames], caught on their way into the codec."""
    model: Any = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
    caught: list[Tensor] = []

    def catch(codes: Tensor, **_: Any) -> Any:
        caught.append(codes)
        return type("Decoded", (), {"audio_values": torch.zeros(1, 1, 1)})

    model.audio_encoder.decode = catch
    inputs = dict(AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt"))
    if not prompt:
        inputs = dict(model.get_unconditional_inputs())
    inputs["guidance_scale"] = guidance
    # N new tokens are N - 3 frames: the last codebook runs 3 steps behind the first.
    model.generate(**inputs, do_sample=False, max_new_tokens=frames + 3)
    channels = [codes[0, 0] for codes in caught]  # stereo is decoded channel by channel: [1L, 2L, …], [1R, 2R, …]
    return torch.stack(channels, dim=1).flatten(0, 1)


SHAPES: dict[str, dict[str, Any]] = {
    "mono": {"hidden": 64, "layers": 2, "heads": 4, "seed": 1},
    "one head, deeper": {"hidden": 24, "layers": 5, "heads": 1, "ffn": 60, "seed": 2},
    "wide heads": {"hidden": 128, "layers": 2, "heads": 2, "ffn": 512, "vocab": 256, "seed": 3},
    "text as wide as the decoder": {"hidden": 32, "text_hidden": 32, "layers": 3, "heads": 8, "seed": 4},
    "stereo": {"hidden": 64, "layers": 2, "heads": 4, "stereo": True, "seed": 5},
}

ON_THE_CPU_KERNEL = ("mono", "wide heads", "stereo")
"""The others are of shapes that it leaves to torch."""


CASES = [(shape, PROMPT, 3.0) for shape in SHAPES]
CASES += [(shape, prompt, 1.0) for shape in ("mono", "stereo") for prompt in (PROMPT, "")]


@pytest.mark.parametrize(("shape", "prompt", "guidance"), CASES)
def test_greedy_tokens_are_the_same(shape: str, prompt: str, guidance: float, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, **SHAPES[shape])
    wanted = theirs(folder, prompt, FRAMES, guidance)
    checkpoint = load_checkpoint(folder)
    decoders: list[StepDecoder] = [MusicGenDecoder.from_checkpoint(checkpoint)]
    if shape in ON_THE_CPU_KERNEL:
        decoders.append(CpuDecoder.from_checkpoint(checkpoint))
    for decoder in decoders:
        made = Ours(checkpoint, decoder).generate(prompt, FRAMES, guidance)
        assert made.shape == wanted.shape == (8 if "stereo" in shape else 4, FRAMES)
        assert torch.equal(made, wanted), type(decoder).__name__
    assert len(set(made.flatten().tolist())) > 20  # music that says nothing proves nothing
