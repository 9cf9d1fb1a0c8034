"""A style as the decoder takes it: codes of what MERT and a transformer hear in an excerpt, before the text.

The codes are the bottleneck of Rouard et al., "Audio Conditioning for Music Generation via Discrete Bottleneck
Features" (2024), section 4: as few of them as are needed for how it sounds and too few for what is played. Same numbers
as the ``StyleConditioner`` of audiocraft's main branch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from models.conditioning.mert import MertEncoder
from models.conditioning.resampling import resampled
from models.style_config import StyleConfig
from models.style_prompt import HeardStyle, StylePrompt
from models.types import GenerationRequest

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint

_EPS = 1e-5  # of all norms
_NO_STYLE = 1  # position: audiocraft makes zeros of it


class StyleConditioner:
    """What is heard is computed on the CPU in float32, wherever the decoder is: a third of a second for each track.

    Args:
        state: audiocraft's names below ``self_wav.``, exactly those of ``config.shapes()``.
        sample_rate: Hz, of the model's sound.
        device: of the embeddings.
    """

    def __init__(
        self,
        config: StyleConfig,
        mert: MertEncoder,
        state: Mapping[str, Tensor],
        sample_rate: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self._mert = mert
        self._rate = sample_rate
        self._state = {name: state[name].float() for name in state}
        streams = range(config.streams)
        self._codebooks = torch.stack([self._state.pop(f"rvq.vq.layers.{each}._codebook.embed") for each in streams])
        self._embedding = self._codebooks.to(device)  # [streams, bins, width]
        self._weight, self._bias = (self._state.pop(f"output_proj.{part}").to(device) for part in ("weight", "bias"))

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> StyleConditioner | None:
        """That of a loaded checkpoint; None: its model takes no style.

        Raises:
            CheckpointError: MERT's weights are not what its configuration calls for.
        """
        config = checkpoint.config.style
        if config is None:
            return None
        mert = MertEncoder(config.mert, checkpoint.style_encoder_state)
        return cls(config, mert, checkpoint.style_state, checkpoint.config.sample_rate, device)

    @property
    def nbytes(self) -> int:
        kept = (*self._state.values(), self._codebooks, self._weight, self._bias)
        return self._mert.nbytes + sum(tensor.nbytes for tensor in kept)

    @torch.inference_mode()
    def heard(self, samples: Tensor, streams: int) -> Tensor:
        """The codes of an excerpt, int16 [streams, positions]. From any thread.

        Args:
            samples: float32 [N] at the model's rate.
        """
        features = self._mert.encode(resampled(samples, self._rate, self.config.mert.sample_rate))
        hidden = F.linear(features, self._state["embed.weight"], self._state["embed.bias"])
        hidden = self._transformed(hidden)
        if self.config.batch_norm:
            mean, variance = (self._state[f"batch_norm.running_{part}"] for part in ("mean", "var"))
            hidden = (hidden - mean) * torch.rsqrt(variance + _EPS)
        return self._codes(hidden[:: self.config.stride], streams).to(torch.int16)

    def embed(self, style: HeardStyle, window: int) -> Tensor:
        """float32 [positions, D]"""
        codes = torch.frombuffer(bytearray(style.windows[window]), dtype=torch.int16).long().view(style.streams, -1)
        codes = codes.to(self._weight.device)
        summed = torch.stack([F.embedding(each, self._embedding[stream]) for stream, each in enumerate(codes)]).sum(0)
        return F.linear(summed, self._weight, self._bias)

    # ---------------------------------------------------------------------------------------------- before the codes

    def positions(self, request: GenerationRequest) -> int:
        """That come before the text of each of its rows."""
        style = request.style
        if style is None:
            return _NO_STYLE
        if isinstance(style, HeardStyle):
            return style.positions
        return self.config.positions(excerpt_samples(style, self.config), self._rate)

    def rows(self, request: GenerationRequest, window: int) -> tuple[Tensor, Tensor]:
        """What a row that listens to it hears in that window, and what a null row does, which are zeros: the
        projection's bias does not reach them. float32 [positions, D] each."""
        assert not isinstance(request.style, StylePrompt), "a style's sound is heard first: this is a bug"
        null = self._weight.new_zeros(self.positions(request), len(self._weight))
        return (null if request.style is None else self.embed(request.style, window)), null

    # --------------------------------------------------------------------------------------------------- inside

    def _transformed(self, hidden: Tensor) -> Tensor:
        hidden = hidden + _sinusoid(len(hidden), self.config.hidden_size)
        for index in range(self.config.num_layers):
            layer = f"transformer.layers.{index}"
            hidden = hidden + self._attend(self._norm(hidden, f"{layer}.norm1"), f"{layer}.self_attn")
            inner = F.gelu(F.linear(self._norm(hidden, f"{layer}.norm2"), self._state[f"{layer}.linear1.weight"]))
            hidden = hidden + F.linear(inner, self._state[f"{layer}.linear2.weight"])
        return hidden

    def _attend(self, hidden: Tensor, name: str) -> Tensor:
        flat = F.linear(hidden, self._state[f"{name}.in_proj_weight"])
        query, key, value = flat.view(len(hidden), 3, self.config.num_heads, -1).permute(1, 2, 0, 3)[:, None]
        mixed = F.scaled_dot_product_attention(query, key, value)
        return F.linear(mixed[0].transpose(0, 1).flatten(1), self._state[f"{name}.out_proj.weight"])

    def _norm(self, hidden: Tensor, name: str) -> Tensor:
        weight, bias = self._state[f"{name}.weight"], self._state[f"{name}.bias"]
        return F.layer_norm(hidden, weight.shape, weight, bias, _EPS)

    def _codes(self, hidden: Tensor, streams: int) -> Tensor:
        """The nearest code of each stream, and of what it leaves that of the next: int64 [streams, frames]."""
        chosen = []
        for codebook in self._codebooks[:streams]:
            distances = codebook.square().sum(1) - 2 * hidden @ codebook.t()
            chosen.append(distances.argmin(1))
            hidden = hidden - codebook[chosen[-1]]
        return torch.stack(chosen)


def _sinusoid(positions: int, width: int) -> Tensor:
    """float32 [positions, width]: cosines first, then sines; phases ``position / 10000^(i / (width/2 − 1))``."""
    half = width // 2
    phases = torch.arange(positions)[:, None] / 10_000 ** (torch.arange(half) / (half - 1))
    return torch.cat([phases.cos(), phases.sin()], dim=1)


def excerpt_samples(style: StylePrompt, config: StyleConfig) -> int:
    """Of its sound; all of one that is shorter."""
    wanted_s = config.excerpt_s if style.excerpt_s is None else style.excerpt_s
    return min(int(wanted_s * style.audio.sample_rate), style.audio.num_samples)
