"""One set of weights for all sides: of a checkpoint folder, or random ones of the published sizes.

Random weights cost the same time as trained ones, need no download, and tell as much about speed. They are drawn so
that codes vary from step to step; what comes out of the codec is noise.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoTokenizer,
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
)

from benchmarks.formats import engine_config
from models.catalog import TINY, TINY_PATH
from models.checkpoint import Checkpoint, load_checkpoint
from models.config import ModelConfig
from models.engine.loader import LoadedModel, build_model


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of a model.

    Attributes:
        text: (width, feed-forward width, width of a head, heads, layers, vocabulary) of the T5 encoder.
        codec: (filters, LSTM layers) of EnCodec, whose geometry is the published one.
    """

    hidden: int
    layers: int
    heads: int
    vocab: int
    text: tuple[int, int, int, int, int, int]
    codec: tuple[int, int]


_T5_BASE = (768, 3072, 64, 12, 12, 32128)
SHAPES: Mapping[str, Shape] = {
    "tiny": Shape(256, 4, 4, 1024, (128, 512, 32, 4, 2, 1024), (20, 1)),
    "small": Shape(1024, 24, 16, 2048, _T5_BASE, (64, 2)),
    "medium": Shape(1536, 48, 24, 2048, _T5_BASE, (64, 2)),
    "large": Shape(2048, 48, 32, 2048, _T5_BASE, (64, 2)),
}


@dataclass(frozen=True, slots=True)
class Weights:
    """The same numbers for every side.

    Attributes:
        name: for the report.
        checkpoint: what our side is built from, of any dtype.
        theirs: transformers' model, float32, on the device.
        tokenizer: transformers' tokenizer.
    """

    name: str
    checkpoint: Checkpoint
    theirs: Any
    tokenizer: Any
    _ours: dict[str, LoadedModel] = field(default_factory=dict, repr=False)
    _theirs: dict[torch.dtype, Any] = field(default_factory=dict, repr=False)

    @property
    def config(self) -> ModelConfig:
        return self.checkpoint.config

    def ours(self, weights_format: str, device: str) -> LoadedModel:
        """Our model in a format, made once, as the engine's loader makes it with its own settings.

        Raises:
            InvalidRequestError: this engine has no such format.
        """
        if weights_format not in self._ours:
            config = engine_config(weights_format, device=device)
            self._ours[weights_format] = build_model(self.checkpoint, config)
        return self._ours[weights_format]

    def theirs_in(self, dtype: torch.dtype) -> Any:
        """transformers' model in another type, codec and text encoder too; copied once."""
        if dtype == torch.float32:
            return self.theirs
        if dtype not in self._theirs:
            self._theirs[dtype] = copy.deepcopy(self.theirs).to(dtype)
        return self._theirs[dtype]


def weights_of_folder(folder: Path, device: str) -> Weights:
    """A checkpoint in transformers format, read by each side's own loader.

    Raises:
        CheckpointError: naming what is wrong with it.
    """
    checkpoint = load_checkpoint(folder)
    theirs = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    name = TINY if folder == TINY_PATH else folder.name
    return Weights(name, checkpoint, theirs.to(device).eval(), tokenizer)


@contextmanager
def random_weights(shape: str, device: str, seed: int) -> Iterator[Weights]:
    """A checkpoint of one of ``SHAPES`` in memory; the same seed draws the same on one machine."""
    theirs = _random_model(SHAPES[shape], device, seed)
    tokenizer = byte_tokenizer()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)  # for the parts that read configuration and tokenizer; the weights stay in memory
        theirs.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        state = theirs.state_dict()
        checkpoint = Checkpoint(
            folder=folder,
            config=ModelConfig.from_folder(folder),
            decoder_state=_below("decoder.", state),
            codec_state={name: tensor.cpu() for name, tensor in _below("audio_encoder.", state).items()},
            text_state={name: tensor.cpu() for name, tensor in _below("text_encoder.", state).items()},
            enc_to_dec_proj=_below("enc_to_dec_proj.", state) or None,
        )
        yield Weights(f"{shape}, random weights", checkpoint, theirs, tokenizer)


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _random_model(shape: Shape, device: str, seed: int) -> Any:
    torch.manual_seed(seed)
    with torch.device(device):
        model = MusicgenForConditionalGeneration(_config(shape)).eval()
        _draw(model.state_dict())
    special = {"pad_token_id": shape.vocab, "bos_token_id": shape.vocab, "decoder_start_token_id": shape.vocab}
    model.generation_config.update(**special)
    return model


@torch.no_grad()
def _draw(state: Mapping[str, Tensor]) -> None:
    """transformers' own initialisation leaves the codebooks empty and lets every step say nearly the same."""
    for name, tensor in state.items():
        if name.endswith("codebook.embed") or ".embed_tokens." in name:
            tensor.normal_()
        elif name.startswith("decoder.") and tensor.dim() == 2:
            tensor.normal_(0, 2 * tensor.shape[1] ** -0.5)


def _config(shape: Shape) -> Any:
    width, ffn, head, heads, layers, vocab = shape.text
    filters, lstm_layers = shape.codec
    return MusicgenConfig(
        text_encoder=T5Config(
            vocab_size=vocab, d_model=width, d_ff=ffn, d_kv=head, num_heads=heads, num_layers=layers
        ).to_dict(),
        audio_encoder=EncodecConfig(
            target_bandwidths=[0.2 * (shape.vocab - 1).bit_length()],  # kbit/s: 4 codebooks at 50 frames per second
            sampling_rate=32_000,
            codebook_size=shape.vocab,
            hidden_size=128,
            num_filters=filters,
            upsampling_ratios=[8, 5, 4, 4],
            num_lstm_layers=lstm_layers,
            use_causal_conv=False,
            use_conv_shortcut=False,
        ).to_dict(),
        decoder=MusicgenDecoderConfig(
            vocab_size=shape.vocab,
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            ffn_dim=4 * shape.hidden,
            num_codebooks=4,
            pad_token_id=shape.vocab,
            bos_token_id=shape.vocab,
        ).to_dict(),
    )


def byte_tokenizer() -> Any:
    """One token per byte; every T5 vocabulary here has room for it."""
    alphabet = ["<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(alphabet)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
