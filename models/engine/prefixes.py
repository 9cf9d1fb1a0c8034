"""What comes before the codes where a model has no cross-attention: a melody and a text, as embeddings.

positions of a row   |melody · 235|text · L|codes of a window ·················|
conditioned row       its tune      its text
null row              null melody   zeros                                        as many of them
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.conditioning.melody import MelodyConditioner
from models.conditioning.text import TextConditioner
from models.config import CHROMA_FRAMES
from models.engine.sequence import Sequence
from models.musicgen.interface import Decoder
from models.musicgen.rows import RowHandle
from models.types import GenerationRequest, Tune

_NO_TEXT = 1  # position: audiocraft tokenises "" to its end, and makes zeros of that


def prefix_positions(request: GenerationRequest, text: TextConditioner, melody: MelodyConditioner | None) -> int:
    """Positions that come before the codes of each of its rows.

    Args:
        melody: of the model; None: nothing comes before.

    Raises:
        InvalidRequestError: the prompt has no token at all.
    """
    if melody is None:
        return 0
    return CHROMA_FRAMES + (text.num_tokens(request.prompt) if request.prompt else _NO_TEXT)


class Prefixes:
    """Those that are not worked through yet, by their requests."""

    def __init__(self, decoder: Decoder, text: TextConditioner, melody: MelodyConditioner) -> None:
        self._decoder = decoder
        self._text = text
        self._melody = melody
        self._rows: dict[str, list[Tensor]] = {}  # float32 [prefix, D] of each row

    def lay_out(self, sequence: Sequence[RowHandle]) -> None:
        """For the window that the request enters; its melody goes on with it.

        Raises:
            InvalidRequestError: the prompt can not be encoded.
        """
        request = sequence.request
        assert isinstance(request.melody, Tune | None), "a melody's sound is heard first: this is a bug"
        tune = None if request.melody is None else request.melody.windows[sequence.window_index]
        silent = self._melody.embed(None)
        no_text = silent.new_zeros(sequence.prefix - CHROMA_FRAMES, silent.shape[1])
        text = no_text
        if request.prompt:
            text = self._decoder.project_text(self._text.encode(request.prompt)).float()
        assert len(text) == len(no_text), "a text has another length than at the door: this is a bug"
        rows = [torch.cat([self._melody.embed(tune), text]), torch.cat([silent, no_text])]
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
