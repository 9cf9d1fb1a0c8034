"""Which of a model's weights are packed, and how a model is built of them: decoder, codec and text encoder on a CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoint import Checkpoint
from models.checkpoint_files import CheckpointFiles
from models.conditioning.text import TextConditioner, encoder_tensors
from models.encodec import cpu_decoder as codecs
from models.encodec.cpu_decoder import CpuEncodecDecoder
from models.encodec.decoder import EncodecDecoder
from models.encodec.loader import cpu_codec_format
from models.engine_config import EngineConfig
from models.kernels.cpu import library
from models.musicgen import cpu_decoder as decoders
from models.musicgen.cpu_decoder import CpuDecoder
from models.musicgen.cpu_weights import packed_tensors
from models.packed.cache import WeightCache
from models.packed.identity import identity_of
from models.packed.store import kept_weights, mapped_weights

Told = Callable[[str], None]

_ROOT = Path(__file__).resolve().parents[1]
_PACKERS = (
    "conditioning/t5.py",
    "conditioning/text.py",
    "encodec/cpu_weights.py",
    "encodec/layers.py",
    "encodec/decoder.py",
    "encodec/weights.py",
    "kernels/cpu/packing.py",
    "musicgen/cpu_weights.py",
    "musicgen/decoder.py",
    "musicgen/weights.py",
    "packed/file.py",
    "packed/parts.py",
)


class PackedModel:
    """The packed tensors of one model, with the part's name before each."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def decoder(self, checkpoint: Checkpoint, config: EngineConfig) -> CpuDecoder:
        return CpuDecoder(checkpoint.config.decoder, self._of("decoder").items(), config.weight_format)

    def codec(self, checkpoint: Checkpoint, config: EngineConfig) -> CpuEncodecDecoder:
        return CpuEncodecDecoder.from_packed(checkpoint.config.codec, self._of("codec"), cpu_codec_format(config))

    def text(self, checkpoint: Checkpoint) -> TextConditioner:
        return TextConditioner.from_checkpoint(checkpoint, state=self._of("text"))

    def _of(self, part: str) -> dict[str, Tensor]:
        beginning = f"{part}."
        of_part = ((name, tensor) for name, tensor in self._tensors.items() if name.startswith(beginning))
        return {name.removeprefix(beginning): tensor for name, tensor in of_part}


def take_packed(
    files: CheckpointFiles | None, checkpoint: Checkpoint, config: EngineConfig, cache: WeightCache, told: Told
) -> PackedModel | None:
    """The packed weights of a checkpoint: mapped as an earlier start left them, else packed now, kept and mapped.

    Args:
        files: the checkpoint's; None: it is in memory only, and nobody else's.
        told: "map" and "pack", when each of them has been done or was not to be.

    Returns:
        None: every replica packs for itself, because this model is small or none of our kernels', or there is no cache
        that can be used.

    Raises:
        CheckpointError: naming the file or tensor that is wrong.
    """
    identity = None
    if files is not None and cache.limit_bytes > 0 and why_not_packed(checkpoint, config) is None:
        identity = identity_of(files)
    if files is None or identity is None or not cache.keeps(identity.num_bytes):
        told("map")
        told("pack")
        return None
    key = f"{identity.digest}-{layout_of(config)}"
    tensors = mapped_weights(cache, key)
    told("map")
    if tensors is None:
        packing = partial(packed_model, checkpoint, config)
        tensors = kept_weights(cache, key, packing, lambda: identity_of(files) == identity)
    told("pack")
    return None if tensors is None else PackedModel(tensors)


def why_not_packed(checkpoint: Checkpoint, config: EngineConfig) -> str | None:
    """None where all of a model's weights are packed for our kernels."""
    if config.device != "cpu" or config.graph:
        return "packed weights are for ordinary steps on a CPU"
    shape = checkpoint.config
    return decoders.why_unsupported(shape.decoder) or codecs.why_unsupported(shape.codec) or library.why_unavailable()


def packed_model(checkpoint: Checkpoint, config: EngineConfig) -> Iterator[tuple[str, Tensor]]:
    """Every packed tensor of a model, one after the other.

    Raises:
        CheckpointError: naming the tensor that is missing, left over or misshapen.
    """
    shape, path = checkpoint.config.decoder, library.kernel().path
    state, projection = checkpoint.decoder_state, checkpoint.enc_to_dec_proj
    decoder = packed_tensors(state, projection, shape, config.weight_format, path)
    yield from _named("decoder", decoder)
    codec = CpuEncodecDecoder(EncodecDecoder.from_checkpoint(checkpoint), cpu_codec_format(config))
    yield from _named("codec", codec.tensors())
    del codec
    yield from _named("text", encoder_tensors(checkpoint).items())


def layout_of(config: EngineConfig) -> str:
    """Of everything but the checkpoint that packed weights depend on."""
    parts = (config.weight_format, cpu_codec_format(config), library.kernel().path, _code())
    return f"{config.weight_format}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}"


@lru_cache(maxsize=1)
def _code() -> str:
    """Whoever packs otherwise, with other code of ours or another torch, keeps it elsewhere."""
    digest = hashlib.sha256(torch.__version__.encode())
    for name in _PACKERS:
        digest.update((_ROOT / name).read_bytes())
    return digest.hexdigest()


def _named(part: str, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    return ((f"{part}.{name}", tensor) for name, tensor in tensors)
