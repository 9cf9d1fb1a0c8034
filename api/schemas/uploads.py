"""Uploads as clients see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import Row


class Upload(BaseModel):
    """Audio that was brought, as it is kept. Name it as the ``melody`` or ``continuation`` of a generation."""

    id: str
    duration: float = Field(description="Seconds, exact")
    sample_rate: int = Field(description="Hz; files above 48,000 are resampled to it")
    channels: int
    total_samples: int = Field(description="Samples per channel")
    sha256: str = Field(description="Of the decoded samples: float32, little-endian, channels interleaved")
    created_at: datetime
    expires_at: datetime = Field(description="Removed then")

    @classmethod
    def of(cls, row: Row[Any]) -> Upload:
        named = {name: value for name, value in row._mapping.items() if name in cls.model_fields}
        return cls(**named, duration=row.total_samples / row.sample_rate)
