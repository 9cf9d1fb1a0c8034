"""A style model of audiocraft 1.3.0's own parts: it has all that such a model is made of, and not the model.

Its transformer, residual quantizer, conditioner base, resampler, language model, dropouts and loop, and transformers'
HuBERT for MERT. How they go together, and the formula of double guidance, is as on audiocraft's main branch.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.audiocraft_files import STYLE_ENCODER
from tests.style_files import BINS, HEADS, LAYERS, MERT_WIDTH, STREAMS, WIDTH, hubert

STREAMS_HEARD, STRIDE, MERT_HZ, FRAMES_HZ = 3, 15, 24_000, 75


def _of(name: str) -> Any:
    return importlib.import_module(f"audiocraft.{name}")


def provider(folder: Path, output_dim: int, rate: int) -> Any:
    """The conditioners of a style model, as audiocraft's builder would make them."""
    conditioners = _of("modules.conditioners")
    parts = {"self_wav": _style(folder, output_dim, rate), "description": _text(conditioners, output_dim)}
    return conditioners.ConditioningProvider(parts, device="cpu")


def _text(conditioners: Any, output_dim: int) -> Any:
    return conditioners.T5Conditioner("t5-base", output_dim, finetune=False, device="cpu", normalize_text=False)


def _style(folder: Path, output_dim: int, rate: int) -> nn.Module:
    conditioners, audio = _of("modules.conditioners"), _of("data.audio_utils")

    class Style(conditioners.WaveformConditioner):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__(WIDTH, output_dim, "cpu")
            self.__dict__["mert"] = hubert(folder / STYLE_ENCODER)  # no part of the checkpoint
            self.embed = nn.Linear(MERT_WIDTH, WIDTH)
            self.transformer = _of("modules.transformer").StreamingTransformer(
                d_model=WIDTH,
                num_heads=HEADS,
                num_layers=LAYERS,
                dim_feedforward=4 * WIDTH,
                memory_efficient=True,
                activation="gelu",
                norm_first=True,
                bias_ff=False,
                bias_attn=False,
            )
            self.rvq = _of("quantization").ResidualVectorQuantizer(WIDTH, n_q=STREAMS, bins=BINS)
            self.batch_norm = nn.BatchNorm1d(WIDTH, affine=False)

        def _get_wav_embedding(self, sound: Any) -> Tensor:
            hidden = torch.zeros(len(sound.wav), 1, WIDTH)
            if sound.wav.shape[-1] > 1:  # one sample alone stands for none
                samples = audio.convert_audio(sound.wav, rate, MERT_HZ, 1)[:, 0]
                hidden = self.embed(self.mert(samples).last_hidden_state)
            hidden = self.batch_norm(self.transformer(hidden).transpose(1, 2))
            self.rvq.set_num_codebooks(STREAMS_HEARD)
            made: Tensor = self.rvq(hidden, frame_rate=1).x.transpose(1, 2)[:, ::STRIDE]
            return made

        def _downsampling_factor(self) -> float:
            return rate / FRAMES_HZ * STRIDE

    return Style()


@contextlib.contextmanager
def doubly_guided(model: Any, beta: float) -> Iterator[None]:
    """With beta above 1 three rows: all there is, all but the text, and nothing."""
    conditioners, language = _of("modules.conditioners"), _of("models.lm")
    dropped = language.ClassifierFreeGuidanceDropout
    if beta == 1:
        yield
        return

    def others(p: float) -> Any:
        wordless = conditioners.AttributeDropout({"text": {"description": 1.0}, "wav": {"self_wav": 0.0}})
        return lambda given: wordless(given) + dropped(p=p)(given)

    def sample(sequence: Tensor, given: Any, *_: Any, cfg_coef: float, **__: Any) -> Tensor:
        logits = model.lm(torch.cat([sequence] * 3), conditions=[], condition_tensors=given)
        conditioned, wordless, null = logits[..., -1, :].split(len(sequence))
        guided = null + cfg_coef * (wordless + beta * (conditioned - wordless) - null)
        return torch.argmax(guided, dim=-1, keepdim=True)

    language.ClassifierFreeGuidanceDropout = others
    model.lm.__dict__["_sample_next_token"] = sample
    try:
        yield
    finally:
        language.ClassifierFreeGuidanceDropout = dropped
        del model.lm.__dict__["_sample_next_token"]
