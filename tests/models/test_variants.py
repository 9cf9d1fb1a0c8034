"""Every published model is recognised by its files, in every format in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import EncodecConfig, MusicgenConfig, MusicgenMelodyConfig

from models.checkpoint import load_checkpoint
from models.checkpoint_files import Format
from models.config import ModelConfig
from models.errors import CheckpointError
from models.variants import LICENCE, VARIANTS, Variant, recognise
from tests.audiocraft_files import CODEC, STYLE_ENCODER, TEXT_ENCODER, compression_file, listens_to, save, settings

T5_BASE = {"model_type": "t5", "d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "vocab_size": 32128}
PUBLISHED = [(variant, kind) for variant in VARIANTS for kind in variant.formats]


def write(folder: Path, variant: Variant, kind: Format) -> Path:
    """The configuration of a published model, and no weights."""
    config = transformers_config(variant)
    if kind is Format.TRANSFORMERS:
        (folder / "config.json").write_text(json.dumps(config))
        return folder
    ours = settings(config)
    if len(variant.conditioners) > 1:
        ours = listens_to(ours, "style" if "style" in variant.conditioners else "chroma_stem")
    if "style" in variant.conditioners:
        (folder / STYLE_ENCODER).mkdir()
        (folder / STYLE_ENCODER / "config.json").write_text(json.dumps({"model_type": "mert_model"}))
    save({"best_state": {}, "xp.cfg": yaml.safe_dump(ours)}, folder / "state_dict.bin")
    save({"pretrained": "facebook/encodec_32khz"}, compression_file(folder))
    for name, part in ((CODEC, "audio_encoder"), (TEXT_ENCODER, "text_encoder")):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config[part]))
    return folder


def transformers_config(variant: Variant) -> dict[str, Any]:
    """As transformers writes it; the codec's settings are those of the published EnCodec at 32 kHz."""
    codec = EncodecConfig(
        target_bandwidths=[2.2],
        sampling_rate=32_000,
        codebook_size=2048,
        num_filters=64,
        upsampling_ratios=[8, 5, 4, 4],
        use_causal_conv=False,
        use_conv_shortcut=False,
    )
    decoder = {
        "hidden_size": variant.hidden_size,
        "num_hidden_layers": variant.num_layers,
        "num_attention_heads": variant.num_heads,
        "ffn_dim": 4 * variant.hidden_size,
        "num_codebooks": variant.num_codebooks,
        "audio_channels": variant.channels,
    }
    kind: Any = MusicgenMelodyConfig if "melody" in variant.conditioners else MusicgenConfig
    config = kind(text_encoder=dict(T5_BASE), audio_encoder=codec.to_dict(), decoder=decoder)
    written: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return written


@pytest.mark.parametrize(("variant", "kind"), PUBLISHED, ids=[f"{variant.name}-{kind}" for variant, kind in PUBLISHED])
def test_every_published_model_is_recognised(variant: Variant, kind: Format, tmp_path: Path) -> None:
    folder = write(tmp_path, variant, kind)
    config = ModelConfig.from_folder(folder)
    assert recognise(config) is variant
    assert (config.channels, config.sample_rate, config.frame_rate, config.max_frames) == (
        variant.channels,
        32_000,
        50,
        1500,
    )
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    missing = "has no tensor best_state." if kind is Format.AUDIOCRAFT else "model.safetensors is missing"
    assert missing in str(caught.value)  # all that is missing are the weights


def test_the_family_is_whole() -> None:
    """The names under which the eleven models are published."""
    sizes = ("small", "medium", "large", "melody", "melody-large")
    assert {variant.hub_id for variant in VARIANTS} == {
        *(f"facebook/musicgen-{size}" for size in sizes),
        *(f"facebook/musicgen-stereo-{size}" for size in sizes),
        "facebook/musicgen-style",
    }
    assert LICENCE == "CC-BY-NC-4.0"


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("decoder", {"num_hidden_layers": 25}),
        ("decoder", {"ffn_dim": 1024}),
        ("text_encoder", {"d_model": 512}),
        ("audio_encoder", {"sampling_rate": 16_000, "upsampling_ratios": [8, 5, 4, 2]}),
    ],
)
def test_a_shape_of_its_own_is_none_of_them(section: str, change: dict[str, Any], tmp_path: Path) -> None:
    config = transformers_config(VARIANTS[0])
    config[section] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert recognise(ModelConfig.from_folder(tmp_path)) is None


def test_another_chroma_is_refused(tmp_path: Path) -> None:
    melody = next(variant for variant in VARIANTS if variant.name == "melody")
    config = transformers_config(melody) | {"chroma_length": 100}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"chroma\.chroma_length = 100 is not supported, it must be 235"):
        ModelConfig.from_folder(tmp_path)
