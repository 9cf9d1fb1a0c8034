"""The prompt becomes what the decoder listens to: T5's encoder, run by transformers, in float32.

Each prompt is encoded alone and unpadded: what other requests say can not change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import AutoTokenizer, T5Config, T5EncoderModel
from transformers.utils import logging

from models.checkpoint_tensors import check_tensors
from models.errors import CheckpointError, InvalidRequestError

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint

CACHED_PROMPTS = 128

# The input table has two names in T5; files hold it under one or both.
_SHARED, _TIED = "shared.weight", "encoder.embed_tokens.weight"


class TextConditioner:
    """Encodes prompts, and remembers the latest.

    Args:
        tokenizer: transformers tokenizer.
        encoder: transformers T5 encoder.
        max_tokens: longer prompts are cut.
    """

    def __init__(self, tokenizer: Any, encoder: Any, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._max_tokens = max_tokens
        self._cached = lru_cache(maxsize=CACHED_PROMPTS)(self._encode)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> TextConditioner:
        """The text encoder and tokenizer of a loaded checkpoint.

        Raises:
            CheckpointError: naming the tensor, config value or tokenizer file that is wrong.
        """
        tokenizer = _load_tokenizer(checkpoint)
        encoder = _load_encoder(checkpoint).to(device)
        if len(tokenizer) > encoder.config.vocab_size:
            raise CheckpointError(
                f"the tokenizer knows {len(tokenizer)} tokens, text_encoder.vocab_size = {encoder.config.vocab_size}"
            )
        return cls(tokenizer, encoder, checkpoint.config.text.max_tokens)

    @property
    def nbytes(self) -> int:
        """Of the encoder's weights."""
        return sum(parameter.nbytes for parameter in self._encoder.parameters())

    def encode(self, prompt: str) -> Tensor:
        """float32 [T, D_text] of the prompt's own T tokens; shared with later callers, so do not write to it.

        Raises:
            InvalidRequestError: the prompt has no token at all.
        """
        assert prompt != "", "the empty prompt is the null condition and is never encoded: this is a bug"
        return self._cached(prompt)

    @torch.inference_mode()
    def _encode(self, prompt: str) -> Tensor:
        tokens = self._tokenizer(prompt, truncation=True, max_length=self._max_tokens)["input_ids"]
        if not tokens:
            raise InvalidRequestError("prompt has nothing that this model's tokenizer knows", param="prompt")
        ids = torch.tensor([tokens], dtype=torch.long, device=self._encoder.device)
        encoded: Tensor = self._encoder(input_ids=ids).last_hidden_state[0]
        return encoded


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """On its way to the tokenizer it reads config.json, and warns of MusicGen's special token being no code."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _load_tokenizer(checkpoint: Checkpoint) -> Any:
    file = checkpoint.tokenizer_folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(f"{file} is missing: save the tokenizer beside the weights (save_pretrained)")
    try:
        with _quiet_transformers():
            return AutoTokenizer.from_pretrained(checkpoint.tokenizer_folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises plain Exception for a broken file
        raise CheckpointError(f"{file} can not be read: {error}") from error


def _load_encoder(checkpoint: Checkpoint) -> Any:
    try:
        config = T5Config.from_dict(dict(checkpoint.config.text.settings))
        with torch.device("meta"):
            encoder = T5EncoderModel(config)
    except (TypeError, ValueError, KeyError, RuntimeError, StrictDataclassError) as error:
        raise CheckpointError(f"config.json: text_encoder is not a T5 configuration: {error}") from error
    state = dict(checkpoint.text_state)
    tied = state.pop(_TIED, None)
    if tied is not None:
        state.setdefault(_SHARED, tied)
    shapes = {name: tuple(each.shape) for name, each in encoder.state_dict().items() if name != _TIED}
    check_tensors("text_encoder", state, shapes)
    state = {name: tensor.float() for name, tensor in state.items()}
    encoder.load_state_dict(state | {_TIED: state[_SHARED]}, assign=True)
    return encoder.requires_grad_(False).eval()
