"""What a track goes on from, as codes: read from a request, checked, laid out for the model's channels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.config import DecoderConfig
from models.errors import InvalidRequestError
from models.types import CodePrompt


def prompt_codes(prompt: CodePrompt, config: DecoderConfig) -> Tensor:
    """The codes, int64 [K, frames] with the model's K; a mono prompt is taken for both channels of a stereo model.

    Raises:
        InvalidRequestError: they are another model's.
    """
    codes = torch.from_numpy(np.frombuffer(prompt.codes, "<i8").astype(np.int64).reshape(prompt.num_codebooks, -1))
    low, high = (int(bound) for bound in codes.aminmax())
    if low < 0 or high >= config.vocab_size:
        raise InvalidRequestError(
            f"the codes to go on from are between {low} and {high}, this model's are below {config.vocab_size}: they "
            "are of another model",
            param="continue",
        )
    if config.num_codebooks == prompt.num_codebooks * config.audio_channels:
        codes = codes.repeat_interleave(config.audio_channels, dim=0)  # stereo: [1L, 1R, 2L, 2R, …]
    if len(codes) != config.num_codebooks:
        raise InvalidRequestError(
            f"the codes to go on from have {len(codes)} codebooks, this model has {config.num_codebooks}: they are of "
            "another model",
            param="continue",
        )
    return codes
