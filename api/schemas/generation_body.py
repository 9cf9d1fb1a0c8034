"""Generations as clients ask for them."""

from __future__ import annotations

from dataclasses import replace

from pydantic import ConfigDict, Field

from api.formats.base import AudioFormat
from api.generations.view import CreateGeneration
from api.schemas.generate import FULL_EXAMPLE, PLAIN_EXAMPLE, MusicBody

MAX_TRACKS = 64


class GenerationBody(MusicBody):
    """One or several tracks of music to make."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                PLAIN_EXAMPLE,
                {
                    **FULL_EXAMPLE,
                    "num_tracks": 2,
                    "seed": 7,
                    "format": "flac",
                    "campaign_id": "spring-launch",
                    "metadata": {"scene": 3},
                },
            ]
        },
    )

    num_tracks: int = Field(
        default=1,
        ge=1,
        le=MAX_TRACKS,
        description="Variations made side by side, at most as many as the tier allows; track i has seed + i",
    )
    format: AudioFormat | None = Field(
        default=None,
        description="Of the links to audio; any other can be asked for as well. Left out: wav",
    )

    def tracks(self, webhook_url: str | None = None) -> CreateGeneration:
        """What the service is asked for.

        Args:
            webhook_url: as checked.
        """
        return replace(self.wish(self.format or "wav", webhook_url), num_tracks=self.num_tracks)
