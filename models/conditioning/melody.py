"""A melody as the decoder takes it: an embedding for each of its pitch classes, before the text and the codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.config import CHROMA_FRAMES
from models.types import GenerationRequest, Tune

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint


class MelodyConditioner:
    """
    Args:
        weight: [D, 12]
        bias: [D]
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        # A pitch class is a vector with a single one in it, so its projection is a column and the bias.
        self._classes = (weight.float().t() + bias.float()).contiguous()  # [12, D]

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> MelodyConditioner | None:
        """That of a loaded checkpoint; None: its model listens to no melody."""
        projection = checkpoint.audio_enc_to_dec_proj
        if projection is None:
            return None
        return cls(projection["weight"].to(device), projection["bias"].to(device))

    def embed(self, tune: bytes | None) -> Tensor:
        """float32 [235, D]

        Args:
            tune: 235 pitch classes; None is the null melody, which is class 0 throughout, and no zeros.
        """
        if tune is None:
            return self._classes[:1].expand(CHROMA_FRAMES, -1)
        assert len(tune) == CHROMA_FRAMES, f"a melody of {len(tune)} pitch classes: this is a bug"
        return self._classes[torch.tensor(list(tune), device=self._classes.device)]

    def positions(self, request: GenerationRequest) -> int:
        """That come before the text of each of its rows, whether it has a melody or not."""
        return CHROMA_FRAMES

    def rows(self, request: GenerationRequest, window: int) -> tuple[Tensor, Tensor]:
        """What a row that listens to it hears in that window, and what a null row does; float32 [235, D] each."""
        assert isinstance(request.melody, Tune | None), "a melody's sound is heard first: this is a bug"
        return self.embed(None if request.melody is None else request.melody.windows[window]), self.embed(None)

    @property
    def nbytes(self) -> int:
        return self._classes.nbytes
