"""What a client may ask for. Nothing is coerced, nothing unknown is ignored."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from api.formats.audio import LiveFormat
from api.formats.base import AudioFormat
from api.generations.conditioning import LONGEST_MELODY_S
from api.generations.steps import SHORTEST_STRIDE_S, WINDOW_S
from api.generations.style import LONGEST_STYLE_S
from api.generations.view import CreateGeneration
from api.redaction import hide
from api.schemas.rules import one_line, storable
from api.webhooks.targets import MAX_URL_CHARACTERS
from models.style_config import LONGEST_EXCERPT_S, SHORTEST_EXCERPT_S
from models.types import (
    DEFAULT_EXTEND_STRIDE_S,
    DEFAULT_STYLE_BETA,
    MAX_GUIDANCE_BETA,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    SamplingParams,
)

DEFAULT_DURATION_S = 10.0
MAX_TOP_K = 65_536
PLAIN_EXAMPLE: JsonDict = {"prompt": "a warm lo-fi beat with soft piano and vinyl crackle"}
FULL_EXAMPLE: JsonDict = {"prompt": "driving techno, 128 bpm, deep bass, no vocals", "model": "tiny", "duration": 12.5}
_DEFAULT = SamplingParams()
_LINE_BREAKS_AND_TAB = "\t\n\r"
MAX_METADATA_KEYS = 50
_SAFE_INTEGER = 2**53
_CONDITIONING = ("melody", "continuation", "style", "style_excerpt", "style_streams")

_Label = Annotated[str, AfterValidator(one_line), Field(min_length=1, max_length=200)]
_Key = Annotated[str, AfterValidator(one_line), Field(min_length=1, max_length=40)]
_Text = Annotated[str, AfterValidator(storable), Field(max_length=500)]
_Integer = Annotated[int, Field(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER)]
_Number = Annotated[float, Field(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER, allow_inf_nan=False)]
_Audio = Annotated[str, Field(pattern="^(trk|upl)_[0-9a-f]{24}$")]


def _plain(value: object, kinds: ValidatorFunctionWrapHandler) -> Any:
    """One refusal, where pydantic has one for each kind of value, named by what it is made of inside."""
    try:
        return kinds(value)
    except ValidationError:
        raise PydanticCustomError(
            "metadata_value",
            "Is no text of at most 500 characters without U+0000 and halves of characters, no number within ±2^53, not "
            "true and not false: nothing else is kept",
        ) from None


_Value = Annotated[_Text | bool | _Integer | _Number, WrapValidator(_plain)]


def _readable(prompt: str) -> str:
    """Text a person could have meant: control characters are refused rather than dropped, so that what was asked for
    and what was made are the same words. From here on nothing that this request logs shows it."""
    hide(prompt)
    bad = next((c for c in prompt if unicodedata.category(c) == "Cc" and c not in _LINE_BREAKS_AND_TAB), None)
    if bad is not None:
        raise PydanticCustomError(
            "control_character",
            "Holds the control character U+{code}: remove it (tabs and line breaks are fine)",
            {"code": f"{ord(bad):04X}"},
        )
    if not any(unicodedata.category(c)[0] in "LNPS" for c in prompt):
        raise PydanticCustomError("empty_text", "Nothing to play: say it in a few words, such as 'calm solo piano'")
    return prompt


class MusicBody(BaseModel):
    """What to play, however it leaves."""

    model_config = ConfigDict(strict=True, extra="forbid")

    prompt: Annotated[str, AfterValidator(_readable)] = Field(
        max_length=MAX_PROMPT_CHARACTERS,
        description="What to play, in words. Not empty; no control characters but tabs and line breaks.",
    )
    model: str | None = Field(
        default=None, min_length=1, description="A model id of GET /api/v1/models; left out: the default model"
    )
    duration: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description=f"Seconds, at most the model's max_duration; left out: {DEFAULT_DURATION_S:g} or the model's "
        "maximum if that is less",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="The same seed and parameters make the same music. Left out: chosen here and told in X-Seed",
    )
    guidance: float = Field(
        default=_DEFAULT.guidance,
        gt=0,
        le=20,
        allow_inf_nan=False,
        description="How closely to follow the prompt (classifier-free guidance); 1 switches guidance off",
    )
    temperature: float = Field(
        default=_DEFAULT.temperature, ge=0, le=10, allow_inf_nan=False, description="Higher is bolder; 0 is greedy"
    )
    top_k: int = Field(
        default=_DEFAULT.top_k, ge=0, le=MAX_TOP_K, description="Choose among the k likeliest tokens; 0 keeps all"
    )
    top_p: float = Field(
        default=_DEFAULT.top_p,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Choose among the likeliest tokens of this total probability; above 0, top_k is ignored",
    )
    greedy: bool = Field(default=_DEFAULT.greedy, description="Always the likeliest token: no chance involved")
    guidance_beta: float | None = Field(
        default=None,
        ge=1,
        le=MAX_GUIDANCE_BETA,
        allow_inf_nan=False,
        description="Beside a melody or style: how much the prompt counts against it (the beta of double guidance); 1: "
        f"as much. Left out: {DEFAULT_STYLE_BETA:g} beside a style, 1 beside a melody",
    )
    extend_stride: float | None = Field(
        default=None,
        ge=SHORTEST_STRIDE_S,
        lt=WINDOW_S,
        allow_inf_nan=False,
        description=f"Only for tracks longer than {WINDOW_S:g} s, which are made window by window: seconds from one "
        f"window to the next, which goes on from the rest; left out: {DEFAULT_EXTEND_STRIDE_S:g}",
    )
    continuation: _Audio | None = Field(
        default=None,
        description=f"A track or upload of yours, at most {WINDOW_S:g} s, that is carried on: it begins the new tracks "
        "and counts toward their duration",
    )
    melody: _Audio | None = Field(
        default=None,
        description=f"A track or upload of yours, at most {LONGEST_MELODY_S:g} s, whose tune is followed; beyond its "
        "end it begins anew",
    )
    melody_separation: Literal["none", "htdemucs"] | None = Field(
        default=None,
        description="What is taken out of the melody before its tune is looked for: nothing, or drums and bass by "
        "Demucs' htdemucs, where the server has that; left out: as the model is set up there (GET /api/v1/models)",
    )
    style: _Audio | None = Field(
        default=None,
        description=f"A track or upload of yours, {SHORTEST_EXCERPT_S:g} to {LONGEST_STYLE_S:g} s, that the new tracks "
        "are to sound like; an excerpt of it is heard, from where a track's seed says",
    )
    style_excerpt: float | None = Field(
        default=None,
        ge=SHORTEST_EXCERPT_S,
        le=LONGEST_EXCERPT_S,
        allow_inf_nan=False,
        description="Seconds of the style that are heard; left out: 3",
    )
    style_streams: int | None = Field(
        default=None, ge=1, description="The more, the closer to the style, at most the model's 6; left out: 3"
    )
    webhook_url: Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARACTERS)] | None = Field(
        default=None, description="Told of the end of this generation, besides the account's webhooks"
    )
    campaign_id: _Label | None = Field(default=None, description="In your own words, for filters")
    client_id: _Label | None = Field(default=None, description="In your own words, for filters")
    brief_id: _Label | None = Field(default=None, description="In your own words, for filters")
    collection: _Label | None = Field(default=None, description="In your own words, for filters")
    metadata: dict[_Key, _Value] = Field(
        default_factory=dict, max_length=MAX_METADATA_KEYS, description="Kept with every track and given back"
    )

    def wish(self, audio_format: AudioFormat, webhook_url: str | None = None) -> CreateGeneration:
        """What the service is asked for: one track.

        Args:
            audio_format: as chosen.
            webhook_url: as checked.
        """
        conditioning = {name: getattr(self, name) for name in _CONDITIONING if getattr(self, name) is not None}
        return CreateGeneration(
            prompt=self.prompt,
            model_id=self.model,
            duration_s=self.duration,
            seed=self.seed,
            sampling=self.sampling(),
            format=audio_format,
            extend_stride_s=self.extend_stride,
            conditioning=conditioning or None,
            melody_separation=self.melody_separation,
            campaign_id=self.campaign_id,
            client_id=self.client_id,
            brief_id=self.brief_id,
            collection=self.collection,
            metadata=self.metadata,
            webhook_url=webhook_url,
        )

    def asked(self) -> dict[str, Any]:
        """What sets it apart from the plainest call, as JSON values: the same from a version that knows more fields."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def sampling(self) -> SamplingParams:
        return SamplingParams(
            guidance=self.guidance,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            greedy=self.greedy,
            guidance_beta=self.guidance_beta,
        )


def _one(num_tracks: object) -> object:
    if num_tracks is True or (isinstance(num_tracks, int) and num_tracks > 1):
        raise PydanticCustomError("one_track", "A stream is one track: POST /api/v1/generate makes several at once")
    return num_tracks


class GenerateBody(MusicBody):
    """One track of music to make."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                PLAIN_EXAMPLE,
                {
                    **FULL_EXAMPLE,
                    "seed": 7,
                    "guidance": 3.0,
                    "temperature": 1.0,
                    "top_k": 250,
                    "top_p": 0.0,
                    "greedy": False,
                    "format": "flac",
                },
            ]
        },
    )

    format: LiveFormat | None = Field(
        default=None,
        description="wav (16-bit PCM), flac (16-bit), mp3 (192 kbit/s), opus (Ogg, 48 kHz) or pcm (raw little-endian "
        "signed 16-bit, channels interleaved); left out: by the Accept header, else wav",
    )
    num_tracks: Annotated[Literal[1], BeforeValidator(_one)] = Field(
        default=1, description="A stream is one track; POST /api/v1/generate makes several at once"
    )
