"""What comes before the codes where a model has no cross-attention: a melody or style and a text, as embeddings.

positions of a row   |melody · 235, or style|text · L|codes of a window ·················|
conditioned row       its own                its own
null row              the null one           zeros                                        as many of them
wordless row          its own                zeros                                        as many: of double guidance
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from models.conditioning.text import TextConditioner
from models.engine.sequence import Sequence
from models.musicgen.interface import Decoder
from models.musicgen.rows import RowHandle
from models.types import GenerationRequest

_NO_TEXT = 1  # position: audiocraft tokenises "" to its end, and makes zeros of that


class SoundConditioner(Protocol):
    """What hears a melody or a style."""

    def positions(self, request: GenerationRequest) -> int:
        """That its sound takes, or the null one; known before the sound is heard."""
        ...

    def rows(self, request: GenerationRequest, window: int) -> tuple[Tensor, Tensor]:
        """Embeddings of its sound in that window and of the null one, float32 [positions, D] each."""
        ...


def prefix_positions(request: GenerationRequest, text: TextConditioner, sound: SoundConditioner | None) -> int:
    """Positions that come before the codes of each of its rows.

    Args:
        sound: of the model; None: nothing comes before.

    Raises:
        InvalidRequestError: the prompt has no token at all.
    """
    if sound is None:
        return 0
    return sound.positions(request) + (text.num_tokens(request.prompt) if request.prompt else _NO_TEXT)


class Prefixes:
    """Those that are not worked through yet, by their requests."""

    def __init__(self, decoder: Decoder, text: TextConditioner, sound: SoundConditioner) -> None:
        self._decoder = decoder
        self._text = text
        self._sound = sound
        self._rows: dict[str, list[Tensor]] = {}  # float32 [prefix, D] of each row

    def lay_out(self, sequence: Sequence[RowHandle]) -> None:
        """For the window that the request enters; its melody goes on with it.

        Raises:
            InvalidRequestError: the prompt can not be encoded.
        """
        request = sequence.request
        heard, silent = self._sound.rows(request, sequence.window_index)
        no_text = silent.new_zeros(sequence.prefix - len(silent), silent.shape[1])
        text = no_text
        if request.prompt:
            text = self._decoder.project_text(self._text.encode(request.prompt)).float()
        assert len(heard) == len(silent), "a sound has another length than at the door: this is a bug"
        assert len(text) == len(no_text), "a text has another length than at the door: this is a bug"
        rows = [torch.cat([heard, text]), torch.cat([silent, no_text]), torch.cat([heard, no_text])]
        self._rows[sequence.request_id] = rows[: sequence.num_rows]

    def take(self, sequence: Sequence[RowHandle], share: int) -> list[Tensor]:
        """Embeddings float32 [n, D] of each row's next n positions, at most ``share``, which come before its codes."""
        if sequence.step >= sequence.prefix:
            return []
        end = min(sequence.step + share, sequence.prefix)
        name = sequence.request_id
        rows = self._rows[name] if end < sequence.prefix else self._rows.pop(name)
        return [row[sequence.step : end] for row in rows]

    def forget(self, request_id: str) -> None:
        """Of a request that ended before its prefix did: a melody's takes 1.5 MB a row in the published models."""
        self._rows.pop(request_id, None)
