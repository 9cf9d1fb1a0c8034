"""Tracks as the gallery shows them, and what it can be asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Row

from api.cursor import MAX_CHARACTERS
from api.gallery.tracks import Filters
from api.generations.view import State
from api.schemas.audio_facts import Channels, Duration, Loudness, Peak, SampleRate, Sha256, TotalSamples
from api.schemas.rules import storable
from api.storage.peaks import MAX_BINS

MAX_PAGE = 100

_Label = Annotated[str, AfterValidator(storable), Field(min_length=1, max_length=200)]


class GalleryQuery(BaseModel):
    """Every filter narrows the list; those left out do not."""

    model_config = ConfigDict(extra="forbid")

    campaign_id: _Label | None = None
    client_id: _Label | None = None
    brief_id: _Label | None = None
    collection: _Label | None = None
    model_id: _Label | None = None
    generation_id: _Label | None = None
    status: State | None = Field(default=None, description="The track's state; left out: every state")
    created_after: AwareDatetime | None = Field(default=None, description="RFC 3339 with a time zone; exclusive")
    created_before: AwareDatetime | None = Field(default=None, description="RFC 3339 with a time zone; exclusive")
    q: _Label | None = Field(default=None, description="Text that the prompt holds, whatever the case of its letters")
    limit: int = Field(default=20, ge=1, le=MAX_PAGE, description="Tracks in a page")
    cursor: str | None = Field(
        default=None, min_length=1, max_length=MAX_CHARACTERS, description="`next_cursor` of the page before"
    )

    def filters(self) -> Filters:
        wanted = self.model_dump(exclude={"status", "limit", "cursor"})
        return Filters(**wanted, state=self.status)


class TrackLinks(BaseModel):
    self: str
    data: str = Field(description="The audio: whole or by Range, in any format")
    peaks: str = Field(description="The waveform")
    generation: str


class Track(BaseModel):
    """One track. What is null is known when it is done."""

    id: str
    generation_id: str
    position: int = Field(description="Among the tracks of its generation: 0, 1, 2 …")
    state: State
    model: str
    prompt: str
    seed: int
    duration: Duration
    sample_rate: SampleRate
    channels: Channels
    total_samples: TotalSamples
    sha256: Sha256
    loudness_lufs: Loudness
    peak: Peak
    campaign_id: str | None
    client_id: str | None
    brief_id: str | None
    collection: str | None
    metadata: dict[str, Any]
    created_at: datetime
    finished_at: datetime | None
    links: TrackLinks

    @classmethod
    def of(cls, row: Row[Any]) -> Track:
        named = dict(row._mapping)
        here = f"/api/v1/audio/{row.id}"
        return cls(
            **{name: named[name] for name in cls.model_fields if name in named},
            model=row.model_id,
            duration=row.total_samples / row.sample_rate if row.total_samples else None,
            links=TrackLinks(
                self=here,
                data=f"{here}/data",
                peaks=f"{here}/peaks",
                generation=f"/api/v1/generate/{row.generation_id}",
            ),
        )


class TrackPage(BaseModel):
    """The newest first."""

    data: list[Track]
    next_cursor: str | None = Field(description="For the next page; null: this is the last one")
    next: str | None = Field(description="The next page's address, filters included")


class Peaks(BaseModel):
    """The picture of a waveform: for each bin of time the least and the largest sample of all channels."""

    bins: int = Field(description=f"At most {MAX_BINS}, and no more than there are samples")
    duration: float = Field(description="Seconds that the bins share equally")
    scale: int = Field(default=127, description="The number that stands for full scale")
    minima: list[int]
    maxima: list[int]
