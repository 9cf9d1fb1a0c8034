"""Generations as clients ask for them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from api.formats.base import AudioFormat
from api.generations.view import CreateGeneration
from api.schemas.generate import FULL_EXAMPLE, PLAIN_EXAMPLE, MusicBody
from api.schemas.rules import one_line, storable
from api.webhooks.targets import MAX_URL_CHARACTERS

MAX_TRACKS = 64
MAX_METADATA_KEYS = 50
_SAFE_INTEGER = 2**53

_Label = Annotated[str, AfterValidator(one_line), Field(min_length=1, max_length=200)]
_Key = Annotated[str, AfterValidator(one_line), Field(min_length=1, max_length=40)]
_Text = Annotated[str, AfterValidator(storable), Field(max_length=500)]
_Integer = Annotated[int, Field(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER)]
_Number = Annotated[float, Field(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER, allow_inf_nan=False)]
_Audio = Annotated[str, Field(pattern="^(trk|upl)_[0-9a-f]{24}$")]


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
    melody: _Audio | None = Field(default=None, description="A track or upload of yours whose tune is followed")
    continuation: _Audio | None = Field(default=None, description="A track or upload of yours that is carried on")
    webhook_url: Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARACTERS)] | None = Field(
        default=None, description="Told of the end of this generation, besides the account's webhooks"
    )
    campaign_id: _Label | None = Field(default=None, description="In your own words, for filters")
    client_id: _Label | None = Field(default=None, description="In your own words, for filters")
    brief_id: _Label | None = Field(default=None, description="In your own words, for filters")
    collection: _Label | None = Field(default=None, description="In your own words, for filters")
    metadata: dict[_Key, _Text | bool | _Integer | _Number] = Field(
        default_factory=dict, max_length=MAX_METADATA_KEYS, description="Kept with every track and given back"
    )

    def wish(self, webhook_url: str | None = None) -> CreateGeneration:
        """What the service is asked for.

        Args:
            webhook_url: as checked.
        """
        conditioning = {name: getattr(self, name) for name in ("melody", "continuation") if getattr(self, name)}
        return CreateGeneration(
            prompt=self.prompt,
            model_id=self.model,
            duration_s=self.duration,
            num_tracks=self.num_tracks,
            seed=self.seed,
            sampling=self.sampling(),
            format=self.format or "wav",
            conditioning=conditioning or None,
            campaign_id=self.campaign_id,
            client_id=self.client_id,
            brief_id=self.brief_id,
            collection=self.collection,
            metadata=self.metadata,
            webhook_url=webhook_url,
        )
