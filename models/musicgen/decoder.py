"""MusicGen's transformer, one position per row at a time.

codes -> sum of K embeddings + sinusoid -> layers of (self-attention, attention to the text, feed-forward), each with a
LayerNorm before it -> LayerNorm -> K heads. No biases but the norms' and the text projection's. Equal to transformers'
``MusicgenForCausalLM`` on the same weights: greedy tokens are the same, one by one.

The null condition (no prompt, or the null row of guidance) is zero rows after the text projection, so its keys and
values are zero and attention to them adds exactly 0: null rows skip that block. transformers' own unconditional inputs
come to the same: zeros are projected to the bias, then masked to zero. (A tokenised "" is not that: its end-of-text
token is a real condition to transformers; here "" is the null condition, as in audiocraft.)

Melody models have no attention to the text: melody and text are rows of their own before the codes (`Given`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import DecoderConfig
from models.musicgen.attention import attend
from models.musicgen.interface import Given
from models.musicgen.kv_cache import KVCache, KVCacheView, StepKV
from models.musicgen.weights import fused_state

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint


# MKL's fp32 products give a row other last bits when there are fewer than 4 or, on several threads, not a multiple of
# 4 beside it. In multiples of 8 rows a row's result depends on nothing but the row (measured on AVX2, widths 32 to
# 4,096, one and two threads, up to 64 rows), so that a seed gives the same tokens alone and in any batch.
INVARIANT_ROWS = 8


def pad_rows(rows: Tensor, multiple: int) -> Tensor:
    """[R, D] -> [R rounded up to the multiple, D], zeros below."""
    missing = -len(rows) % multiple
    return F.pad(rows, (0, 0, 0, missing)) if missing else rows


class DecoderLayer(nn.Module):
    """One layer; every projection of the same input is one matrix. Its rows are padded to a multiple."""

    def __init__(self, config: DecoderConfig, index: int, row_multiple: int) -> None:
        super().__init__()
        width = config.hidden_size
        self._multiple = row_multiple
        self._index = index
        self._heads = (config.num_heads, config.head_dim)
        self.self_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.self_out = nn.Linear(width, width, bias=False)
        if config.cross_attention:
            self.cross_norm = nn.LayerNorm(width)
            self.cross_query = nn.Linear(width, width, bias=False)
            self.cross_kv = nn.Linear(width, 2 * width, bias=False)
            self.cross_out = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, width, bias=False)

    def forward(self, hidden: Tensor, step: StepKV, view: KVCacheView) -> Tensor:
        """[R padded, D] -> [R padded, D]"""
        hidden = hidden + self._attend_to_past(hidden, step, view.num_rows)
        if view.num_conditioned == view.num_rows:
            hidden = hidden + self._attend_to_text(hidden, view)
        elif view.num_conditioned:
            listening = pad_rows(hidden.index_select(0, view.conditioned), self._multiple)
            text = self._attend_to_text(listening, view)[: view.num_conditioned]
            hidden = hidden.index_add(0, view.conditioned, text)
        return hidden + cast(Tensor, self.down(F.gelu(self.up(self.ffn_norm(hidden)))))

    def text_kv(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """[T, D] -> K and V, each [H, T, Dh]"""
        keys_values = self.cross_kv(projected).view(len(projected), 2, *self._heads).permute(1, 2, 0, 3).contiguous()
        return keys_values[0], keys_values[1]

    def _attend_to_past(self, hidden: Tensor, step: StepKV, rows: int) -> Tensor:
        qkv = self.qkv(self.self_norm(hidden)).view(len(hidden), 3, *self._heads)[:rows]
        keys, values = step.store(self._index, qkv[:, 1:])
        context = attend(qkv[:, 0].to(keys[0].dtype), keys, values)
        return cast(Tensor, self.self_out(pad_rows(context.to(hidden.dtype), self._multiple)))

    def _attend_to_text(self, hidden: Tensor, view: KVCacheView) -> Tensor:
        """Rows with text only: [Rc padded, D] -> [Rc padded, D]"""
        keys, values = view.cross_keys[self._index], view.cross_values[self._index]
        query = self.cross_query(self.cross_norm(hidden)).view(len(hidden), *self._heads)[: view.num_conditioned]
        context = attend(query.to(keys[0].dtype), keys, values)
        return cast(Tensor, self.cross_out(pad_rows(context.to(hidden.dtype), self._multiple)))


class MusicGenDecoder(nn.Module):
    """The transformer of one model; holds weights only, what rows remember is the cache's.

    Args:
        config: its shape. Weights are untrained until loaded.
        row_multiple: rows are padded to a multiple of this; INVARIANT_ROWS makes results independent of the batch.
    """

    offsets: Tensor
    sinusoid: Tensor

    def __init__(self, config: DecoderConfig, row_multiple: int = 1) -> None:
        super().__init__()
        self.config = config
        self._multiple = row_multiple
        table = config.vocab_size + 1
        self.embedding = nn.Parameter(torch.empty(config.num_codebooks * table, config.hidden_size))
        self.layers = nn.ModuleList(DecoderLayer(config, index, row_multiple) for index in range(config.num_layers))
        self.final_norm = nn.LayerNorm(config.hidden_size)
        self.heads = nn.Linear(config.hidden_size, config.num_codebooks * config.vocab_size, bias=False)
        self.text_projection = (
            nn.Linear(config.text_hidden_size, config.hidden_size) if config.has_text_projection else None
        )
        offsets = torch.arange(config.num_codebooks, device="cpu") * table
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("sinusoid", sinusoid(config.num_positions, config.hidden_size), persistent=False)
        self.requires_grad_(False).eval()

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        row_multiple: int = 1,
    ) -> MusicGenDecoder:
        """The decoder of a loaded checkpoint, whose tensors `load_checkpoint` has accounted for."""
        config = checkpoint.config.decoder
        state = fused_state(checkpoint.decoder_state, config, device, dtype)
        for part, tensor in (checkpoint.enc_to_dec_proj or {}).items():
            state[f"text_projection.{part}"] = tensor.to(device, dtype)
        with torch.device("meta"):  # no time is spent on weights that are replaced at once
            decoder = cls(config, row_multiple)
        decoder.load_state_dict(state, assign=True)
        # The sinusoid stays in float32 whatever the weights are.
        return decoder.requires_grad_(False).to(device)

    def new_cache(self, positions: int, max_rows: int) -> KVCache:
        """Room for so many positions over all rows, wherever the weights are.

        On a CPU keys and values stay in float32: attention over bfloat16 is measured 5 to 8 times slower there.
        """
        device = self.embedding.device
        dtype = torch.float32 if device.type == "cpu" else self.embedding.dtype
        return KVCache(self.config, positions, device, dtype)

    def forward_step(self, codes: Tensor, positions: Tensor, cache: KVCacheView, given: Given | None = None) -> Tensor:
        """One new position per row; rows may be at any position, with any text or none.

        Args:
            codes: int64 [R, K]; each row's codes at its position, the special token where there is none.
            positions: int64 [R], in order for each row: the step whose codes these are.
            cache: the same R rows.
            given: embeddings in place of some rows' codes.

        Returns:
            float32 [S, K, V]: logits of the next step of each of the view's sampled rows, which come first.
        """
        step = cache.advance(positions)
        embedded = F.embedding_bag(codes + self.offsets, self.embedding, mode="sum")
        if given is not None:
            embedded = embedded.index_copy(0, given.rows, given.embeddings.to(embedded.dtype))
        hidden = (embedded + self.sinusoid.index_select(0, positions)).to(self.embedding.dtype)
        hidden = pad_rows(hidden, self._multiple)
        for layer in self.layers:
            hidden = layer(hidden, step, cache)
        sampled = cache.num_sampled
        if sampled < len(codes):
            hidden = hidden[: -(-sampled // self._multiple) * self._multiple]
        logits = self.heads(self.final_norm(hidden))[:sampled]
        return cast(Tensor, logits.view(sampled, self.config.num_codebooks, self.config.vocab_size).float())

    def project_text(self, encoded: Tensor) -> Tensor:
        """Encoded text [T, D_text] -> [T, D]. The null condition never comes here: the bias must not reach it."""
        encoded = encoded.to(self.embedding.device, self.embedding.dtype)
        return encoded if self.text_projection is None else cast(Tensor, self.text_projection(encoded))

    def cross_kv(self, projected: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Projected text [T, D] -> per layer K and V, each [H, T, Dh]; once per request."""
        return [cast(DecoderLayer, layer).text_kv(projected) for layer in self.layers]


def sinusoid(positions: int, width: int) -> Tensor:
    """float32 [positions, width]: cosines first, then sines; phases ``position / 10000^(i / (width/2 − 1))``.

    Computed operation by operation as transformers does, so that the numbers are the same to the last bit.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half, device="cpu").float() * -(math.log(10000) / (half - 1)))
    phases = torch.arange(positions, device="cpu").float()[:, None] * rates[None, :]
    return torch.cat([phases.cos(), phases.sin()], dim=1)
