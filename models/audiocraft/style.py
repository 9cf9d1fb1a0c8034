"""How an audiocraft checkpoint says that its model hears a style, and where its tensors are. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from models.audiocraft.settings import Settings
from models.config_file import Section, read_json
from models.errors import CheckpointError
from models.style_config import MertConfig, StyleConfig

PREFIX = "condition_provider.conditioners.self_wav."
"""Of the style's tensors. MERT's are not among them: audiocraft fetches it by its name."""

TOLERATED = re.compile(
    re.escape(PREFIX)
    + r"(batch_norm\.num_batches_tracked|rvq\.vq\.layers\.\d+\._codebook\.(inited|cluster_size|embed_avg))"
)
"""What only training reads."""

_SECTION = "conditioners.self_wav.style"
_SCALES: Mapping[str, tuple[int, int, int]] = {
    "xsmall": (256, 4, 8),
    "default": (512, 8, 8),
    "large": (1024, 24, 16),
    "none": (512, 0, 1),
}
"""audiocraft's names of the transformer's width, layers and heads."""
_TRAINING = frozenset(
    (
        "encodec_checkpoint",
        "encodec_n_q",
        "q_dropout",
        "varying_lengths",
        "compute_mask",
        "num_codebooks_lm",
        "ds_rate_compression",
        "rvq_threshold_ema_dead_code",
    )
)


def read_style(settings: Settings, sample_rate: int, mert: Path) -> StyleConfig:
    """
    Args:
        sample_rate: Hz, of the model's sound.
        mert: folder of the encoder.

    Raises:
        CheckpointError: naming the setting that is not supported.
    """
    section = settings.section(_SECTION)
    section.require({"model_name": "mert", "sample_rate": sample_rate, "use_middle_of_segment": False})
    scale = section.number("transformer_scale", "default")
    if scale not in _SCALES:
        known = ", ".join(_SCALES)
        raise CheckpointError(f"{settings.file}: {_SECTION}.transformer_scale = {scale!r} is none of {known}")
    width, layers, heads = _SCALES[scale]
    config = StyleConfig(
        mert=read_mert(mert),
        hidden_size=width,
        num_layers=layers,
        num_heads=heads,
        streams=section.number("n_q_out", 6),
        bins=section.number("bins", 1024),
        heard_streams=section.number("eval_q", 3),
        stride=section.number("ds_factor", 15),
        excerpt_s=section.number("length", 3.0),
        batch_norm=section.number("batch_norm", True),
    )
    section.refuse_unknown(_TRAINING)
    return config


def read_mert(folder: Path) -> MertConfig:
    """Of MERT's own folder, as its authors publish it.

    Raises:
        CheckpointError: naming the file or value.
    """
    file = folder / "config.json"
    section = Section("MERT", read_json(file), str(file))
    section.require(MertConfig.required())
    published = MertConfig()
    return MertConfig(
        hidden_size=section.number("hidden_size", published.hidden_size),
        num_layers=section.number("num_hidden_layers", published.num_layers),
        num_heads=section.number("num_attention_heads", published.num_heads),
        ffn_dim=section.number("intermediate_size", published.ffn_dim),
        conv_channels=section.numbers("conv_dim", published.conv_channels),
        conv_kernels=section.numbers("conv_kernel", published.conv_kernels),
        conv_strides=section.numbers("conv_stride", published.conv_strides),
        conv_bias=section.number("conv_bias", published.conv_bias),
        position_kernel=section.number("num_conv_pos_embeddings", published.position_kernel),
        position_groups=section.number("num_conv_pos_embedding_groups", published.position_groups),
        eps=section.number("layer_norm_eps", published.eps),
        sample_rate=section.number("sample_rate", published.sample_rate),
    )
