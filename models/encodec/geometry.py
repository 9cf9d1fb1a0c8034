"""How many samples a number of frames makes final: arithmetic on the configuration alone, no tensors.

The decoder is not causal, so a sample depends on a few frames after its own. Walking through the layers and
counting the rows that no later input can change gives the exact look-ahead. For the published geometry
(ratios 8, 5, 4, 4; kernels 7, 3, 7) f frames make ``640 * (f - 4) + 158`` samples final, so whole frames come
out 4 frames late, and the first one exists once 5 frames are in.
"""

from __future__ import annotations

from models.config import CodecConfig
from models.errors import CheckpointError

LOOKAHEAD_FRAMES = 4
"""Whole frames of look-ahead of the published geometry; `lookahead_frames` computes it for any other."""

PAD_MODES = ("constant", "reflect")


def check_supported(config: CodecConfig) -> None:
    """Refuse a codec that this decoder would decode wrongly.

    Raises:
        CheckpointError: naming the configuration value.
    """
    required = {
        "use_causal_conv": False,
        "norm_type": "weight_norm",
        "normalize": False,
        "trim_right_ratio": 1.0,
        "audio_channels": 1,
        "codebook_dim": config.hidden_size,
    }
    for name, wanted in required.items():
        found = getattr(config, name)
        if found != wanted:
            raise CheckpointError(f"codec config: {name} = {found!r} is not supported, it must be {wanted!r}")
    if config.pad_mode not in PAD_MODES:
        raise CheckpointError(f"codec config: pad_mode = {config.pad_mode!r} is not supported, use one of {PAD_MODES}")
    for name in ("kernel_size", "last_kernel_size", "residual_kernel_size"):
        size = getattr(config, name)
        if size < 1 or size % 2 == 0:
            raise CheckpointError(f"codec config: {name} = {size!r} is not supported, it must be odd")
    for name in ("num_lstm_layers", "num_filters", "num_quantizers", "compress", "dilation_growth_rate"):
        if getattr(config, name) < 1:
            raise CheckpointError(f"codec config: {name} = {getattr(config, name)!r} must be at least 1")
    if config.compress > config.num_filters:
        raise CheckpointError(
            f"codec config: compress = {config.compress!r} leaves no channels of num_filters = {config.num_filters}"
        )
    if not config.upsampling_ratios or min(config.upsampling_ratios) < 1:
        raise CheckpointError(f"codec config: upsampling_ratios = {config.upsampling_ratios!r} must be positive")


def final_samples(config: CodecConfig, frames: int) -> int:
    """Samples that no later frame can change, after the first ``frames`` frames of a clip that goes on."""
    rows = frames - config.kernel_size // 2
    for ratio in config.upsampling_ratios:
        rows = rows * ratio - trim_left(ratio)
        for layer in range(config.num_residual_layers):
            rows -= (config.residual_kernel_size - 1) * config.dilation_growth_rate**layer // 2
    return max(0, rows - config.last_kernel_size // 2)


def lookahead_frames(config: CodecConfig) -> int:
    """Frames that must follow a frame before all of its samples are final."""
    frames = 1
    while final_samples(config, frames) < config.hop_length:
        frames += 1
    return frames - 1


def trim_left(ratio: int) -> int:
    """Rows cut from the start of a transposed convolution of kernel ``2 * ratio`` (the rest is cut at the end)."""
    return ratio - ratio // 2
