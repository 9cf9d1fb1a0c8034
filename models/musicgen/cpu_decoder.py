"""MusicGen's transformer for CPUs: the same function as `MusicGenDecoder`, one call of our own kernel per step.

A CPU reads weights and pasts as fast as its memory gives them; what torch's operators add (dispatch, packing, one
thread team per operator, attention for one query) costs more than the reading. Weights are packed once, in one of
four formats. Results of a row do not depend, to the last bit, on the other rows of a step, in any format.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import DecoderConfig
from models.kernels.cpu import library
from models.kernels.cpu.library import Kernel, Layer, Matrix, Model, Norm
from models.kernels.cpu.packing import GROUP, TILE, PackedMatrix
from models.musicgen.cpu_cache import CpuKVCache, CpuKVCacheView, PackedText
from models.musicgen.cpu_weights import PROJECTION, matrix_of, packed_tensors
from models.musicgen.interface import Given
from models.musicgen.weights import head_format

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint

_NORMS = ("self_norm", "cross_norm", "ffn_norm")
_LARGEST_HEAD = 128


def why_unsupported(config: DecoderConfig) -> str | None:
    """None where the kernel can run a decoder of this shape."""
    if config.hidden_size % GROUP or config.ffn_dim % GROUP:
        return f"hidden_size = {config.hidden_size} and ffn_dim = {config.ffn_dim} must be multiples of {GROUP}"
    if config.head_dim % TILE or config.head_dim > _LARGEST_HEAD:
        return f"the heads' size {config.head_dim} must be a multiple of {TILE}, at most {_LARGEST_HEAD}"
    if config.num_codebooks * config.vocab_size % TILE:
        return f"codebooks times vocabulary must be a multiple of {TILE}"
    return None


class CpuDecoder:
    """The transformer of one model in the kernel's layout; what rows remember is the cache's.

    Args:
        tensors: those of `packed_tensors`, of its own or mapped from a file, which others may have mapped as well.
        weights: "fp32", "bf16", "int8" or "int4": what they were packed as.
        kernel: which; None is this machine's.

    Raises:
        KernelUnavailableError: the kernel can not run here.
    """

    def __init__(
        self,
        config: DecoderConfig,
        tensors: Iterable[tuple[str, Tensor]],
        weights: str,
        kernel: Kernel | None = None,
    ) -> None:
        assert why_unsupported(config) is None, f"{why_unsupported(config)}: the caller asks first"
        self.config = config
        self.weights = weights
        self.kv_dtype = torch.float32 if weights == "fp32" else torch.bfloat16
        self._kernel = kernel or library.kernel()
        self._tensors = dict(tensors)
        self._packed: dict[str, PackedMatrix] = {}
        self._projection = [self._tensors.get(f"{PROJECTION}{part}") for part in ("weight", "bias")]
        self._layers = (Layer * config.num_layers)(*(self._layer(index) for index in range(config.num_layers)))
        self._model = self._tables()

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, weights: str = "fp32", kernel: Kernel | None = None) -> CpuDecoder:
        """The decoder of a loaded checkpoint, whose tensors `load_checkpoint` has accounted for."""
        kernel, config = kernel or library.kernel(), checkpoint.config.decoder
        state, projection = checkpoint.decoder_state, checkpoint.enc_to_dec_proj
        return cls(config, packed_tensors(state, projection, config, weights, kernel.path), weights, kernel)

    def new_cache(self, positions: int, max_rows: int) -> CpuKVCache:
        """Room for so many positions over all rows."""
        return CpuKVCache(self.config, positions, max_rows, self.kv_dtype, self._model, self._layers)

    def forward_step(
        self, codes: Tensor, positions: Tensor, cache: CpuKVCacheView, given: Given | None = None
    ) -> Tensor:
        """One new position per row; rows may be at any position, with any text or none.

        Args:
            codes: int64 [R, K]; each row's codes at its position, the special token where there is none.
            positions: int64 [R], in order for each row: the step whose codes these are.
            cache: the same R rows.
            given: embeddings in place of some rows' codes.

        Returns:
            float32 [S, K, V]: logits of the next step of each of the view's sampled rows, which come first; the
            view's own, overwritten by the next step.
        """
        codes, positions = codes.contiguous(), positions.contiguous()
        cache.advance(positions, torch.get_num_threads())
        cache.batch.codes, cache.batch.positions = codes.data_ptr(), positions.data_ptr()
        if given is not None:
            return self._forward_given(cache, given)
        self._kernel.step(cache.cache.model, cache.batch)
        return cache.logits

    def project_text(self, encoded: Tensor) -> Tensor:
        """Encoded text [T, D_text] -> float32 [T, D]. The null condition never comes here: no bias must reach it."""
        weight, bias = self._projection
        return encoded.float() if weight is None else F.linear(encoded.float(), weight, bias)

    def cross_kv(self, projected: Tensor) -> PackedText:
        """Projected text [T, D] -> keys and values of all layers; once per request."""
        size = -(-len(projected) // library.BLOCK) * library.BLOCK * self.config.hidden_size
        keys, values = (torch.empty(self.config.num_layers, size, dtype=self.kv_dtype) for _ in range(2))
        for index in range(self.config.num_layers):
            both = self._kernel.multiply(self._packed[f"{index}.cross_kv"], projected)
            self._kernel.store_text(both, self.config.num_heads, keys[index], values[index])
        return PackedText(keys, values, len(projected))

    @property
    def step_bytes(self) -> int:
        """Bytes of weights that every step reads."""
        read = (packed.nbytes for name, packed in self._packed.items() if not name.endswith(".cross_kv"))
        return sum(read)

    @property
    def nbytes(self) -> int:
        """Of everything that is kept: weights, tables, norms."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    # ------------------------------------------------------------------------------------------------ inside

    def _forward_given(self, cache: CpuKVCacheView, given: Given) -> Tensor:
        embeddings = given.embeddings.float().contiguous()
        lines = torch.full((cache.num_rows,), -1).index_copy(0, given.rows, torch.arange(len(given.rows)))
        cache.batch.given, cache.batch.given_lines = embeddings.data_ptr(), lines.data_ptr()
        self._kernel.step(cache.cache.model, cache.batch)
        cache.batch.given = cache.batch.given_lines = None
        return cache.logits

    def _layer(self, index: int) -> Layer:
        """Without cross-attention, nothing of it."""
        layer, width, ffn = Layer(), self.config.hidden_size, self.config.ffn_dim
        shapes = {
            "qkv": (3 * width, width),
            "self_out": (width, width),
            "cross_query": (width, width),
            "cross_kv": (2 * width, width),
            "cross_out": (width, width),
            "up": (ffn, width),
            "down": (width, ffn),
        }
        attends_to_text = self.config.cross_attention
        for name in _NORMS:
            if attends_to_text or not name.startswith("cross_"):
                setattr(layer, name, self._norm(f"{index}.{name}"))
        for name, shape in shapes.items():
            if attends_to_text or not name.startswith("cross_"):
                setattr(layer, name, self._matrix(f"{index}.{name}", self.weights, shape))
        return layer

    def _tables(self) -> Model:
        config = self.config
        narrow = self.weights != "fp32"
        return Model(
            num_layers=config.num_layers,
            width=config.hidden_size,
            num_heads=config.num_heads,
            ffn_dim=config.ffn_dim,
            num_codebooks=config.num_codebooks,
            vocab_size=config.vocab_size,
            narrow_kv=narrow,
            narrow_embedding=narrow,
            embedding=self._tensors["embedding"].data_ptr(),
            sinusoid=self._tensors["sinusoid"].data_ptr(),
            final_norm=self._norm("final_norm"),
            heads=self._matrix(
                "heads", head_format(self.weights), (config.num_codebooks * config.vocab_size, config.hidden_size)
            ),
            layers=self._layers,
        )

    def _norm(self, name: str) -> Norm:
        return Norm(*(self._tensors[f"{name}.{part}"].data_ptr() for part in ("weight", "bias")))

    def _matrix(self, name: str, weights: str, shape: tuple[int, int]) -> Matrix:
        self._packed[name] = matrix_of(self._tensors, name, weights, shape)
        return library.matrix_of(self._packed[name])
