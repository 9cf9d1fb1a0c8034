"""The names of audiocraft's tensors, and those that the same numbers have in transformers: ours. No torch here.

transformers holds as three matrices what audiocraft's attention holds as one, ``in_proj_weight``: its rows are the
query's, the key's and the value's, one third each.
"""

from __future__ import annotations

import re

PROJECTION = "condition_provider.conditioners.description.output_proj"
"""What transformers calls ``enc_to_dec_proj``."""

MELODY_PROJECTION = "condition_provider.conditioners.self_wav.output_proj"
"""What transformers calls ``audio_enc_to_dec_proj``."""

TOLERATED = frozenset(("condition_provider.conditioners.self_wav.chroma.spec.window",))
"""The window of a melody's spectrogram, a Hann window like everybody's: computed here."""

_LAYER = re.compile(r"model\.decoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_THIRDS = ("q_proj", "k_proj", "v_proj")
_ATTENTIONS = {"self_attn": "self_attn", "encoder_attn": "cross_attention"}
_MODULES = {
    "fc1": "linear1",
    "fc2": "linear2",
    "self_attn_layer_norm": "norm1",
    "encoder_attn_layer_norm": "norm_cross",
    "final_layer_norm": "norm2",
}
_TABLES = (
    (re.compile(r"model\.decoder\.embed_tokens\.(\d+)\.weight"), r"emb.\1.weight"),
    (re.compile(r"lm_heads\.(\d+)\.weight"), r"linears.\1.weight"),
    (re.compile(r"model\.decoder\.layer_norm\.(weight|bias)"), r"out_norm.\1"),
)
_CODEC = (
    (re.compile(r"^(encoder|decoder)\.model\."), r"\1.layers."),
    (re.compile(r"\.(conv|convtr)\.\1\."), ".conv."),
    (re.compile(r"^quantizer\.vq\.layers\.(\d+)\._codebook\."), r"quantizer.layers.\1.codebook."),
)


def language_model_name(name: str) -> tuple[str, int | None]:
    """Where audiocraft keeps one of the decoder's tensors.

    Args:
        name: transformers', below ``decoder.``.

    Returns:
        its name in ``best_state``, and which third of its rows are meant: 0 query, 1 key, 2 value, None for all.
    """
    layer = _LAYER.fullmatch(name)
    if layer is None:
        for pattern, theirs in _TABLES:
            if pattern.fullmatch(name):
                return pattern.sub(theirs, name), None
        raise KeyError(name)
    index, module, kind = layer.groups()
    root = f"transformer.layers.{index}"
    if module in _MODULES:
        return f"{root}.{_MODULES[module]}.{kind}", None
    attention, projection = module.split(".")
    if projection in _THIRDS:
        return f"{root}.{_ATTENTIONS[attention]}.in_proj_weight", _THIRDS.index(projection)
    return f"{root}.{_ATTENTIONS[attention]}.{projection}.weight", None


def codec_name(name: str) -> str:
    """What transformers calls one of the codec's tensors, below ``audio_encoder.``; a stranger keeps its name."""
    for pattern, ours in _CODEC:
        name = pattern.sub(ours, name)
    return name
