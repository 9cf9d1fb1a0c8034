"""A codec that audiocraft trained: its names for what transformers calls otherwise. No torch here."""

from __future__ import annotations

from collections.abc import Mapping

from models.audiocraft.settings import Settings
from models.config import CodecConfig
from models.errors import CheckpointError

_KIND = {"compression_model": "encodec", "encodec.autoencoder": "seanet", "encodec.quantizer": "rvq"}
_SEANET: Mapping[str, object] = {
    "activation": "ELU",
    "norm": "weight_norm",
    "true_skip": True,
    "disable_norm_outer_blocks": 0,
}
_SEANET_SKIPPED = frozenset(("channels", "causal", "activation_params", "norm_params", "encoder", "decoder"))


def read_codec(settings: Settings) -> CodecConfig:
    """The configuration in a ``compression_state_dict.bin`` that holds a codec's own weights.

    Raises:
        CheckpointError: naming the setting that is not supported.
    """
    for path, wanted in _KIND.items():
        settings.require(path, wanted)
    settings.require("seanet.decoder.final_activation", None)
    seanet, rvq = settings.section("seanet"), settings.section("rvq")
    seanet.require(_SEANET)
    hidden_size = seanet.number("dimension", 128)
    ratios = seanet.numbers("ratios", (8, 5, 4, 2))
    if min(ratios) < 1:
        raise CheckpointError(f"{settings.file}: seanet.ratios = {list(ratios)} must be positive")
    config = CodecConfig(
        sampling_rate=settings.section("encodec").number("sample_rate", 0),
        audio_channels=settings.section("encodec").number("channels", 1),
        num_filters=seanet.number("n_filters", 32),
        hidden_size=hidden_size,
        codebook_size=rvq.number("bins", 1024),
        codebook_dim=hidden_size,
        num_quantizers=rvq.number("n_q", 8),
        upsampling_ratios=ratios,
        kernel_size=seanet.number("kernel_size", 7),
        last_kernel_size=seanet.number("last_kernel_size", 7),
        residual_kernel_size=seanet.number("residual_kernel_size", 3),
        dilation_growth_rate=seanet.number("dilation_base", 2),
        num_residual_layers=seanet.number("n_residual_layers", 3),
        num_lstm_layers=seanet.number("lstm", 0),
        compress=seanet.number("compress", 2),
        use_causal_conv=bool(settings.get("encodec.causal", False)),
        pad_mode=seanet.number("pad_mode", "reflect"),
        trim_right_ratio=float(settings.get("seanet.decoder.trim_right_ratio", 1.0)),
        norm_type="weight_norm",
        use_conv_shortcut=False,
        normalize=bool(settings.get("encodec.renormalize", False)),
    )
    seanet.refuse_unknown(_SEANET_SKIPPED)
    return config
