"""The published MusicGen models, and which of them a checkpoint is. No torch here.

Facts: audiocraft's configurations (config/model/lm/model_scale, config/conditioner, docs/MUSICGEN.md) and the
``config.json`` of each model on the hub.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.checkpoint_files import Format
from models.config import ModelConfig

LICENCE = "CC-BY-NC-4.0"
"""Of the weights that Meta published: no commercial use."""

HUB_OWNER = "facebook"

_CODES, _TEXT_WIDTH, _CODEBOOKS_PER_CHANNEL = 2048, 768, 4  # of all of them: EnCodec at 32 kHz, t5-base
_CODEC = (32_000, (8, 5, 4, 4))


@dataclass(frozen=True, slots=True)
class Variant:
    """One published model.

    Attributes:
        hidden_size, num_layers, num_heads: of the decoder; its feed-forward is four times as wide.
        channels: 1 or 2; 4 codebooks each.
        conditioners: what it listens to, as in `ModelConfig`.
        formats: in which it is published.
    """

    name: str
    hidden_size: int
    num_layers: int
    num_heads: int
    channels: int
    conditioners: tuple[str, ...]
    formats: tuple[Format, ...] = (Format.TRANSFORMERS, Format.AUDIOCRAFT)

    @property
    def hub_id(self) -> str:
        return f"{HUB_OWNER}/musicgen-{self.name}"

    @property
    def num_codebooks(self) -> int:
        return _CODEBOOKS_PER_CHANNEL * self.channels

    def fits(self, config: ModelConfig) -> bool:
        """Whether a model of that configuration is of this shape."""
        decoder, codec = config.decoder, config.codec
        return (
            (decoder.hidden_size, decoder.num_layers, decoder.num_heads, decoder.ffn_dim)
            == (self.hidden_size, self.num_layers, self.num_heads, 4 * self.hidden_size)
            and (decoder.audio_channels, decoder.num_codebooks) == (self.channels, self.num_codebooks)
            and (decoder.vocab_size, decoder.text_hidden_size) == (_CODES, _TEXT_WIDTH)
            and (codec.sampling_rate, codec.upsampling_ratios) == _CODEC
            and config.conditioners == self.conditioners
        )


_SMALL, _MEDIUM, _LARGE = (1024, 24, 16), (1536, 48, 24), (2048, 48, 32)
_WITH_TEXT, _WITH_MELODY, _WITH_STYLE = ("text",), ("melody", "text"), ("style", "text")

VARIANTS = (
    Variant("small", *_SMALL, 1, _WITH_TEXT),
    Variant("medium", *_MEDIUM, 1, _WITH_TEXT),
    Variant("large", *_LARGE, 1, _WITH_TEXT),
    Variant("melody", *_MEDIUM, 1, _WITH_MELODY),
    Variant("melody-large", *_LARGE, 1, _WITH_MELODY),
    Variant("stereo-small", *_SMALL, 2, _WITH_TEXT),
    Variant("stereo-medium", *_MEDIUM, 2, _WITH_TEXT),
    Variant("stereo-large", *_LARGE, 2, _WITH_TEXT),
    Variant("stereo-melody", *_MEDIUM, 2, _WITH_MELODY),
    Variant("stereo-melody-large", *_LARGE, 2, _WITH_MELODY),
    Variant("style", *_MEDIUM, 1, _WITH_STYLE, (Format.AUDIOCRAFT,)),
)


def recognise(config: ModelConfig) -> Variant | None:
    """The published model of that configuration; None: it is of a shape of its own.

    Weights of the same shape may have been trained by somebody else: the licence is theirs to say.
    """
    return next((variant for variant in VARIANTS if variant.fits(config)), None)
