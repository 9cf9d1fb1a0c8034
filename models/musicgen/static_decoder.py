"""MusicGen's transformer as a static step: the same shapes and addresses whatever the rows are about.

The same arithmetic as `MusicGenDecoder`, for a CUDA graph: no value decides what is computed. All rows attend to a
text, those without one to a text of length 0, which is exactly nothing. How a layer is put into kernels is chosen once:
``torch`` uses torch's own, ``triton`` ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import DecoderConfig
from models.engine_config import ATTENTION_BACKENDS, KV_FORMATS, LAYER_KERNELS, STATIC_WEIGHTS
from models.kernels.decode_attention import LayerKV, check_backend, decode_attention
from models.musicgen.static_cache import StaticKVCache
from models.musicgen.static_layers import Hidden, LayerOperators
from models.musicgen.static_weights import LayerWeights, StaticWeights

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint

LONGEST_TEXT = 512
"""Tokens; T5 is asked for no more."""
_TEXT_TOKENS_PER_ROW = 64
_FEWEST_TEXT_POSITIONS = 2 * LONGEST_TEXT


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """
    Attributes:
        attention: one of ``triton``, ``sdpa``, ``xformers``.
        layers: what surrounds attention: ``triton`` or ``torch``.
        kv: keys and values of the past in the ``model``'s own type, or ``int8``.
        text_positions: room for the texts of all running requests, in tokens; None for 64 per row.
        weights: of the products in the ``model``'s own type, or ``int8`` with a scale per output; tables, norms and
            the text's projections are in the former.

    Raises:
        ValueError: naming the option that does not exist.
    """

    attention: str = "triton"
    layers: str = "triton"
    kv: str = "model"
    text_positions: int | None = None
    weights: str = "model"

    def __post_init__(self) -> None:
        choices = {
            "attention": ATTENTION_BACKENDS,
            "layers": LAYER_KERNELS,
            "kv": KV_FORMATS,
            "weights": STATIC_WEIGHTS,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    def check(self, head_dim: int) -> None:
        """Whether this machine has the kernels for heads of that size; at start-up, not in the first request.

        Raises:
            ValueError: attention does not do this head dimension.
            ImportError: a package is missing; the message says which and how to do without.
        """
        check_backend(self.attention, head_dim)
        LayerOperators.of(self.layers)


@dataclass(frozen=True, slots=True)
class StepRows:
    """R rows of one step, on the device.

    Attributes:
        places: int64 [R], where in the arena each row's new position is.
        starts: int32 [R], where its past starts.
        lengths: int32 [R], how long that is, the new position counted; 0 for a row that is nobody's.
        text_starts, text_lengths: the same of its text.
        longest: no length is above it.
    """

    places: Tensor
    starts: Tensor
    lengths: Tensor
    text_starts: Tensor
    text_lengths: Tensor
    longest: int


class StaticDecoder:
    """The transformer of one model for `models.engine.graph_runner`; holds weights only.

    Args:
        config: its shape.

    Raises:
        ValueError, ImportError: as `StaticOptions.check`.
    """

    def __init__(self, config: DecoderConfig, weights: StaticWeights, options: StaticOptions) -> None:
        options.check(config.head_dim)
        self.config = config
        self.options = options
        self._weights = weights
        self._offsets = torch.arange(config.num_codebooks, device=self.device) * (config.vocab_size + 1)
        self._operators = LayerOperators.of(options.layers)
        self._workspaces: dict[tuple[int, int], Any] = {}

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype, options: StaticOptions
    ) -> StaticDecoder:
        """The decoder of a loaded checkpoint; see `StaticWeights.from_checkpoint`."""
        weights = StaticWeights.from_checkpoint(checkpoint, device, dtype, options.weights)
        return cls(checkpoint.config.decoder, weights, options)

    @property
    def device(self) -> torch.device:
        return self._weights.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        return self._weights.embedding.dtype

    def new_cache(self, positions: int, max_rows: int) -> StaticKVCache:
        """Room for so many positions over all rows, and for the texts of as many requests as there may be rows."""
        texts = self.options.text_positions or max(_FEWEST_TEXT_POSITIONS, max_rows * _TEXT_TOKENS_PER_ROW)
        return StaticKVCache(self.config, positions, texts, self.device, self.dtype, self.options.kv)

    def forward(self, codes: Tensor, positions: Tensor, rows: StepRows, cache: StaticKVCache) -> Tensor:
        """One new position per row.

        Args:
            codes: int64 [R, K]; each row's codes at its position, the special token where there is none.
            positions: int64 [R]

        Returns:
            float32 [R, K, V]: logits of each row's next step.
        """
        hidden = self._run(codes, positions, rows, cache, sharing=False)
        logits = self._operators.project(hidden, self._weights.final_norm, self._weights.heads)
        return logits.view(len(codes), self.config.num_codebooks, -1).float()

    def fill(self, codes: Tensor, positions: Tensor, rows: StepRows, cache: StaticKVCache) -> None:
        """Work through known codes: as `forward`, but rows may be several positions of one region, each after the one
        before, and nobody wants logits."""
        self._run(codes, positions, rows, cache, sharing=True)

    def project_text(self, encoded: Tensor) -> Tensor:
        """Encoded text [T, D_text] -> [T, D]. The null condition never comes here: the bias must not reach it."""
        encoded = encoded.to(self.device, self.dtype)
        projection = self._weights.text_projection
        return encoded if projection is None else F.linear(encoded, *projection)

    def cross_kv(self, projected: Tensor) -> Tensor:
        """Projected text [T, D] -> K and V of all layers [L, 2, H, T, Dh]; once per request."""
        config = self.config
        shape = (len(projected), config.num_layers, 2, config.num_heads, config.head_dim)
        return F.linear(projected, self._weights.cross_kv).view(shape).permute(1, 2, 3, 0, 4)

    # --------------------------------------------------------------------------------------------------- inside

    def _run(self, codes: Tensor, positions: Tensor, rows: StepRows, cache: StaticKVCache, sharing: bool) -> Hidden:
        """All layers. ``sharing``: what one row writes another reads, so all is written first."""
        weights = self._weights
        embedded = F.embedding(codes + self._offsets, weights.embedding).sum(1)
        start = (embedded + weights.sinusoid.index_select(0, positions)).to(self.dtype)
        hidden = Hidden(start)
        for layer, past, text in zip(weights.layers, cache.layers, cache.texts, strict=True):
            self._attend_to_past(hidden, layer, past, rows, sharing)
            self._attend_to_text(hidden, layer, text, rows)
            wide = self._operators.project(hidden, layer.ffn_norm, layer.up, gelu=True)
            self._operators.add(hidden, wide, layer.down)
        return hidden

    def _attend_to_past(
        self, hidden: Hidden, layer: LayerWeights, past: LayerKV, rows: StepRows, sharing: bool
    ) -> None:
        qkv = self._operators.project(hidden, layer.self_norm, layer.qkv).view(len(rows.starts), 3, *self._heads_shape)
        if self.options.attention == "triton" and not sharing:
            from models.kernels.triton.decode_attention import attend

            room = self._workspace(qkv, rows.longest)
            past_rows = (rows.starts, rows.lengths)
            context = attend(qkv[:, 0], past, *past_rows, longest=rows.longest, new=qkv[:, 1:], workspace=room)
        else:
            past.write(qkv[:, 1:], rows.places)
            context = self._attend(qkv[:, 0], past, rows.starts, rows.lengths, rows.longest)
        self._operators.add(hidden, context, layer.self_out)

    def _attend_to_text(self, hidden: Hidden, layer: LayerWeights, text: LayerKV, rows: StepRows) -> None:
        query = self._operators.project(hidden, layer.cross_norm, layer.cross_query)
        query = query.view(len(rows.starts), *self._heads_shape)
        context = self._attend(query, text, rows.text_starts, rows.text_lengths, LONGEST_TEXT)
        self._operators.add(hidden, context, layer.cross_out)

    def _attend(self, query: Tensor, kv: LayerKV, starts: Tensor, lengths: Tensor, longest: int) -> Tensor:
        backend = self.options.attention
        workspace = self._workspace(query, longest) if backend == "triton" else None
        return decode_attention(query, kv, starts, lengths, backend=backend, longest=longest, workspace=workspace)

    @property
    def _heads_shape(self) -> tuple[int, int]:
        return self.config.num_heads, self.config.head_dim

    def _workspace(self, query: Tensor, longest: int) -> Any:
        """Shared by all layers: each kernel is done with it before the next begins."""
        from models.kernels.triton.decode_attention import Workspace

        key = (len(query), longest)
        if key not in self._workspaces:
            self._workspaces[key] = Workspace.of(len(query), *self._heads_shape, longest, self.device)
        return self._workspaces[key]
