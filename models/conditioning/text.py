"""The prompt becomes what the decoder listens to: T5's encoder, in float32.

Each prompt is encoded alone and unpadded: what other requests say can not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.checkpoint_tensors import check_tensors
from models.conditioning.t5 import SHARED, TIED, T5Encoder, T5Settings
from models.errors import CheckpointError, InvalidRequestError

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint

CACHED_PROMPTS = 128


class TextConditioner:
    """Encodes prompts, and remembers the latest.

    Args:
        tokenize: text → token ids, no more than the encoder takes.
        encoder: of those.
    """

    def __init__(self, tokenize: Callable[[str], list[int]], encoder: T5Encoder) -> None:
        self._tokenize = tokenize
        self._encoder = encoder
        self._cached = lru_cache(maxsize=CACHED_PROMPTS)(self._encode)
        self._cached_tokens = lru_cache(maxsize=CACHED_PROMPTS)(self._tokens)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        state: Mapping[str, Tensor] | None = None,
    ) -> TextConditioner:
        """The text encoder and tokenizer of a loaded checkpoint.

        Args:
            state: what `encoder_tensors` gave for it, here or in another process; None: read now.

        Raises:
            CheckpointError: naming the tensor, config value or tokenizer file that is wrong.
        """
        tokenizer = _load_tokenizer(checkpoint)
        encoder = _load_encoder(checkpoint, device, state)
        if tokenizer.get_vocab_size() > encoder.settings.vocab_size:
            raise CheckpointError(
                f"the tokenizer knows {tokenizer.get_vocab_size()} tokens, "
                f"text_encoder.vocab_size = {encoder.settings.vocab_size}"
            )
        return cls(lambda text: tokenizer.encode(text).ids, encoder)

    @property
    def nbytes(self) -> int:
        """Of the encoder's weights."""
        return self._encoder.nbytes

    def encode(self, prompt: str) -> Tensor:
        """float32 [T, D_text] of the prompt's own T tokens; shared with later callers, so do not write to it.

        Raises:
            InvalidRequestError: the prompt has no token at all.
        """
        assert prompt != "", "the empty prompt is the null condition and is never encoded: this is a bug"
        return self._cached(prompt)

    def num_tokens(self, prompt: str) -> int:
        """T, without encoding the prompt; from any thread.

        Raises:
            InvalidRequestError: the prompt has no token at all.
        """
        return len(self._cached_tokens(prompt))

    def _encode(self, prompt: str) -> Tensor:
        return self._encoder.encode(self._tokens(prompt))

    def _tokens(self, prompt: str) -> list[int]:
        tokens = self._tokenize(prompt)
        if not tokens:
            raise InvalidRequestError("prompt has nothing that this model's tokenizer knows", param="prompt")
        return tokens


def _load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """As its file describes it, but for padding and length: a prompt is alone, and cut where the encoder ends."""
    file = checkpoint.tokenizer_folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(f"{file} is missing: save the tokenizer beside the weights (save_pretrained)")
    try:
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_padding()
        tokenizer.enable_truncation(checkpoint.config.text.max_tokens)
    except Exception as error:  # the tokenizers library raises plain Exception for a broken file
        raise CheckpointError(f"{file} can not be read: {error}") from error
    return tokenizer


def _load_encoder(
    checkpoint: Checkpoint, device: torch.device | str, state: Mapping[str, Tensor] | None = None
) -> T5Encoder:
    return T5Encoder(_settings(checkpoint), encoder_tensors(checkpoint) if state is None else state, device)


def encoder_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The encoder's tensors, float32.

    Raises:
        CheckpointError: naming the tensor or config value that is wrong.
    """
    state = dict(checkpoint.text_state)
    tied = state.pop(TIED, None)
    if tied is not None:
        state.setdefault(SHARED, tied)
    check_tensors("text_encoder", state, _settings(checkpoint).shapes())
    return {name: tensor.float() for name, tensor in state.items()}


def _settings(checkpoint: Checkpoint) -> T5Settings:
    try:
        return T5Settings.of(checkpoint.config.text.settings)
    except ValueError as error:
        raise CheckpointError(f"config.json: text_encoder is not a T5 configuration: {error}") from error
