"""``melody``, ``continuation``, ``style``: audio that a generation refers to, by the id of an upload or own track."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import utc_now
from api.errors import ApiError, ErrorCode
from api.gallery import tracks
from api.uploads import service
from api.uploads.decode import INAUDIBLE

Use = Literal["melody", "continuation", "style"]


@dataclass(frozen=True, slots=True)
class Reference:
    """Audio that is there, and where: an ``AudioRow``, which ``AudioLibrary`` reads.

    Attributes:
        id: of the track or upload.
        sample_rate: Hz.
        peak: largest absolute sample; None: of an upload, which is never silent.
        model_id: of the model that made it; None: an upload.
    """

    id: str
    account_id: str
    object_key: str
    sample_rate: int
    channels: int
    total_samples: int
    peak: float | None = None
    model_id: str | None = None

    @property
    def is_silent(self) -> bool:
        return self.peak is not None and self.peak < INAUDIBLE

    @property
    def duration_s(self) -> float:
        return self.total_samples / self.sample_rate


async def resolve(conn: AsyncConnection, account_id: str, ref: str, now: datetime | None = None) -> Reference:
    """The audio behind an id.

    Args:
        now: left out: the present; uploads expire.

    Raises:
        ApiError: audio_not_found: no track or upload of this account, or an upload that has expired;
            audio_not_ready: the track has no audio.
    """
    if ref.startswith("upl_"):
        row, made = await service.find(conn, account_id, ref, now or utc_now()), {}
    else:
        row = await tracks.get(conn, account_id, ref)
        made = {"peak": row.peak, "model_id": row.model_id}
    if row.object_key is None:
        raise ApiError(ErrorCode.AUDIO_NOT_READY)
    return Reference(row.id, row.account_id, row.object_key, row.sample_rate, row.channels, row.total_samples, **made)


def refuse(model_id: str, use: Use) -> ApiError:
    """What to raise when a model can not take it."""
    message = f"the model {model_id} can not take a {use}: leave it out, or choose a model that can"
    return ApiError(ErrorCode.CONDITIONING_UNSUPPORTED, message, param=use)
