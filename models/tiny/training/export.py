"""Put codec, text encoder and decoder together into one transformers-format folder, float16 on disk.

``python -m models.tiny.training.export --runs runs/tiny --out models/tiny/checkpoint``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    EncodecModel,
    GenerationConfig,
    MusicgenConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)
from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

from models.tiny.composer.score import STEMS
from models.tiny.training import checkpointing
from models.tiny.training.codebooks import CODEBOOK_SIZE, SUBSPACE, Codebooks
from models.tiny.training.text import load_or_build
from models.tiny.training.train_codec import codec_config
from models.tiny.training.train_decoder import decoder_config
from models.tiny.training.train_text import text_config

# The heads are scaled so that the family's default, temperature 1, draws as temperature 0.6 would: a small model's
# tail of unlikely codes is mostly mistakes.
SHARPNESS = 1 / 0.6
DESCRIPTION = {
    "licence": "Apache-2.0",
    "description": (
        "Small MusicGen trained on a composer's own music: six timbres, twelve keys, five tempi, drums or none."
    ),
}


@torch.no_grad()
def fill_codec(codec: EncodecModel, runs: Path, kept: Tensor | None = None) -> None:
    """The trained codec's weights and codewords; without a trained encoder it makes music, but cannot encode any.

    Args:
        kept: int64 [4, n], the codes that are left of each codebook; None: all.
    """
    trained, books = checkpointing.load_required(runs / "codec.pt"), Codebooks.load(runs / "codebooks.npz")
    codec.load_state_dict({name: v for name, v in trained["model"].items() if ".codebook." not in name}, strict=False)
    encoder = checkpointing.load(runs / "encoder.pt")
    if encoder is not None:
        codec.encoder.load_state_dict(encoder["model"])
    for q, layer in enumerate(codec.quantizer.layers):
        table = torch.zeros(CODEBOOK_SIZE, len(STEMS) * SUBSPACE)
        own = slice(q * SUBSPACE, (q + 1) * SUBSPACE)
        table[:, own] = trained["embedding"][f"tables.{q}"].masked_fill(books.is_silence(q)[:, None], 0.0)
        table = table if kept is None else table[kept[q]]
        layer.codebook.embed.copy_(table)
        layer.codebook.embed_avg.copy_(table)
        layer.codebook.cluster_size.fill_(1.0)


@torch.no_grad()
def build_model(runs: Path) -> MusicgenForConditionalGeneration:
    """The trained parts as transformers' own model, float32."""
    decoder: MusicgenDecoderConfig = decoder_config()
    config = MusicgenConfig(
        text_encoder=text_config().to_dict(), audio_encoder=codec_config().to_dict(), decoder=decoder.to_dict()
    )
    model = MusicgenForConditionalGeneration(config)
    fill_codec(model.audio_encoder, runs)
    file = runs / "decoder.pt"
    fill_decoder(model, checkpointing.load_required(file)["model"], file)
    return model.eval()


@torch.no_grad()
def fill_decoder(
    model: MusicgenForConditionalGeneration | MusicgenMelodyForConditionalGeneration,
    trained: Mapping[str, Tensor],
    file: Path,
) -> None:
    """Put all that was trained but the codec's parts into the model, its heads as sharp as they are sampled.

    Args:
        file: they come from, for the message.

    Raises:
        SystemExit: the weights are another model's.
    """
    missing, unexpected = model.load_state_dict(trained, strict=False)
    missing = [name for name in missing if not name.startswith("audio_encoder.")]
    if missing or unexpected:
        raise SystemExit(f"{file} does not fit: missing {missing}, unexpected {unexpected}")
    for head in model.decoder.lm_heads:
        head.weight.mul_(SHARPNESS)


def export(runs: Path, out: Path) -> None:
    """Write the folder; the figures of the model card come from evaluate.py."""
    model = build_model(runs)
    model.generation_config = generation_config(CODEBOOK_SIZE)
    model.config.decoder.decoder_start_token_id = CODEBOOK_SIZE
    model.half().save_pretrained(out)
    write_beside(out, runs, DESCRIPTION)


def generation_config(special: int) -> GenerationConfig:
    """The family's defaults."""
    return GenerationConfig(
        do_sample=True, guidance_scale=3.0, top_k=250, temperature=1.0, max_length=1503,
        decoder_start_token_id=special, bos_token_id=special, pad_token_id=special,
    )  # fmt: skip


def write_beside(out: Path, runs: Path, card: dict[str, str]) -> None:
    """What belongs into the folder beside the weights: tokenizer and card."""
    load_or_build(runs / "tokenizer").save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    (out / "tutti.json").write_text(json.dumps(card, indent=2) + "\n")
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{out}: {size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    export(args.runs, args.out)


if __name__ == "__main__":
    main()
