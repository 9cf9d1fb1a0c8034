"""Continuation and long form in the plainest way there is: transformers' decoder over the whole window, every step.

Nothing is cached and nothing is ours but the loops, which follow audiocraft's ``generate_continuation``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, MusicgenForConditionalGeneration


class Reference:
    """One checkpoint, loaded by transformers."""

    def __init__(self, folder: str | Path) -> None:
        self.model: Any = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        config = self.model.config.decoder
        self.special, self.codebooks = config.vocab_size, config.num_codebooks
        self.delays = [codebook // config.audio_channels for codebook in range(config.num_codebooks)]

    @torch.inference_mode()
    def window(self, prompt: str, known: Tensor, frames: int, guidance: float) -> Tensor:
        """Greedy codes, int64 [K, frames], of which the first are ``known``, [K, P]."""
        last, begin = frames + max(self.delays), known.shape[1]
        steps = torch.full((self.codebooks, last + 1), self.special)
        for codebook, delay in enumerate(self.delays):
            steps[codebook, 1 + delay : 1 + delay + begin] = known[codebook]
        for step in range(begin + 1, last + 1):
            codes = self._logits(prompt, steps[:, :step], guidance).argmax(-1)
            for codebook, delay in enumerate(self.delays):
                if begin <= step - 1 - delay < frames:  # what is known stays, and so does the special token
                    steps[codebook, step] = codes[codebook]
        return torch.stack([steps[q, 1 + delay : 1 + delay + frames] for q, delay in enumerate(self.delays)])

    def track(self, prompt: str, known: Tensor, frames: int, guidance: float, *, longest: int, stride: int) -> Tensor:
        """Greedy codes of a track made in windows: audiocraft's loop."""
        pieces, offset, prompt_codes = [known], 0, known
        while offset + prompt_codes.shape[1] < frames:
            length = min(frames - offset, longest)
            made = self.window(prompt, prompt_codes, length, guidance)
            pieces.append(made[:, prompt_codes.shape[1] :])
            prompt_codes = made[:, stride:]
            offset += stride
        return torch.cat(pieces, dim=1)

    def no_codes(self) -> Tensor:
        return torch.empty(self.codebooks, 0, dtype=torch.int64)

    def _logits(self, prompt: str, steps: Tensor, guidance: float) -> Tensor:
        null = torch.zeros(1, 1, self.model.config.decoder.hidden_size)
        if not prompt:
            return self._row(steps, null)
        inputs = self.tokenizer([prompt], return_tensors="pt")
        text = self.model.text_encoder(**inputs).last_hidden_state
        if hasattr(self.model, "enc_to_dec_proj"):
            text = self.model.enc_to_dec_proj(text)
        if guidance <= 1:
            return self._row(steps, text)
        unconditioned = self._row(steps, null)
        return unconditioned + (self._row(steps, text) - unconditioned) * guidance

    def _row(self, steps: Tensor, states: Tensor) -> Tensor:
        """Logits [K, V] of the step after these, [K, steps]."""
        logits: Tensor = self.model.decoder(input_ids=steps, encoder_hidden_states=states, use_cache=False).logits
        return logits[:, -1]
