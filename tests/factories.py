"""Random-weight MusicGen checkpoints in transformers' folder layout: a small real model instead of a mock.

Offline: the tokenizer is made here. The weights are drawn so that tokens vary, listen to the text, and make audible,
unclipped sound; transformers' own initialisation gives a codec with empty codebooks.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyDecoderConfig,
    MusicgenMelodyForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
)

CODEBOOKS_PER_CHANNEL = 4
SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")


def make_checkpoint(
    folder: str | Path,
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    ffn: int = 128,
    stereo: bool = False,
    vocab: int = 64,
    text_hidden: int = 32,
    filters: int = 2,
    latent: int = 16,
    ratios: tuple[int, ...] = (8, 5, 4, 4),
    lstm_layers: int = 1,
    pad_mode: str = "reflect",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    melody: bool = False,
) -> Path:
    """Write a checkpoint that transformers and we can load; the same arguments give the same weights.

    Args:
        folder: created if it is not there.
        vocab: codes per codebook, V; the special token's id is V.
        text_hidden: width of the text encoder; equal to ``hidden`` there is no projection.
        ratios: of the codec; their product is the hop, and there are 50 frames per second.
        dtype: of the weights in the file.
        melody: a model that listens to a melody and a text before its codes.
    """
    path = Path(folder)
    decoder = decoder_config(hidden, layers, heads, ffn, stereo, vocab, melody)
    codec = codec_config(vocab, filters, latent, ratios, lstm_layers, pad_mode)
    tokenizer = make_tokenizer()
    text = T5Config(
        vocab_size=len(tokenizer), d_model=text_hidden, d_kv=8, d_ff=2 * text_hidden, num_layers=2, num_heads=4
    )
    parts = {"text_encoder": text, "audio_encoder": codec, "decoder": decoder}
    model: Any = (
        MusicgenMelodyForConditionalGeneration(MusicgenMelodyConfig(**parts))
        if melody
        else MusicgenForConditionalGeneration(MusicgenConfig(**parts))
    )
    randomize(model, seed)
    settings = {"pad_token_id": vocab, "bos_token_id": vocab, "decoder_start_token_id": vocab, "do_sample": True}
    model.generation_config.update(**settings, guidance_scale=3.0, max_length=1504)
    model.to(dtype).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def decoder_config(
    hidden: int, layers: int, heads: int, ffn: int, stereo: bool, vocab: int, melody: bool = False
) -> MusicgenDecoderConfig | MusicgenMelodyDecoderConfig:
    """The transformer: 4 codebooks per channel."""
    kind = MusicgenMelodyDecoderConfig if melody else MusicgenDecoderConfig
    return kind(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        ffn_dim=ffn,
        num_codebooks=CODEBOOKS_PER_CHANNEL * (2 if stereo else 1),
        audio_channels=2 if stereo else 1,
        max_position_embeddings=2048,
        pad_token_id=vocab,
        bos_token_id=vocab,
    )


def codec_config(
    vocab: int, filters: int, latent: int, ratios: tuple[int, ...], lstm_layers: int, pad_mode: str
) -> EncodecConfig:
    """The published 32 kHz geometry, narrower; 50 frames per second at any hop."""
    bits_per_frame = CODEBOOKS_PER_CHANNEL * math.ceil(math.log2(vocab))
    return EncodecConfig(
        target_bandwidths=[50 * (bits_per_frame + 0.5) / 1000],  # kbit/s; half a bit against rounding down
        sampling_rate=50 * math.prod(ratios),
        codebook_size=vocab,
        hidden_size=latent,
        num_filters=filters,
        upsampling_ratios=list(ratios),
        num_lstm_layers=lstm_layers,
        use_causal_conv=False,
        use_conv_shortcut=False,
        pad_mode=pad_mode,
    )


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and ``</s>`` at the end as T5 has it: any text can be encoded."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


@torch.no_grad()
def randomize(model: nn.Module, seed: int) -> None:
    """Draw every weight anew, from one generator and in the order of their names."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(model.state_dict().items()):
        if name.endswith(("cluster_size", "inited", "embed_avg")):
            continue
        fresh = torch.randn(tensor.shape, generator=generator)
        tensor.copy_(_scaled(name, fresh))


def _scaled(name: str, normal: Any) -> Any:
    if name.startswith("audio_encoder."):
        return _scaled_codec(name, normal)
    if name.endswith("norm.weight"):
        return 1 + 0.1 * normal
    if "embed_tokens" in name or "shared" in name or name.endswith("bias") or "relative_attention" in name:
        return 0.5 * normal
    return normal * (2 / normal.shape[-1] ** 0.5)  # a gain above 1: the layers say more than the residual


def _scaled_codec(name: str, normal: Any) -> Any:
    if name.endswith("original0"):
        last = name.startswith("audio_encoder.decoder.layers.") and normal.shape[0] == 1
        return (0.3 if last else 1.0) * (1 + 0.2 * normal)
    if name.endswith("codebook.embed"):
        return normal
    return normal * (1 / normal.shape[-1] ** 0.5 if normal.dim() == 2 else 0.2)
