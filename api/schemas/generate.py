"""What a client may ask for. Nothing is coerced, nothing unknown is ignored."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from api.formats.audio import LiveFormat
from api.redaction import hide
from models.types import MAX_PROMPT_CHARACTERS, MAX_SEED, SamplingParams

DEFAULT_DURATION_S = 10.0
MAX_TOP_K = 65_536
PLAIN_EXAMPLE: JsonDict = {"prompt": "a warm lo-fi beat with soft piano and vinyl crackle"}
FULL_EXAMPLE: JsonDict = {"prompt": "driving techno, 128 bpm, deep bass, no vocals", "model": "tiny", "duration": 12.5}
_DEFAULT = SamplingParams()
_LINE_BREAKS_AND_TAB = "\t\n\r"


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

    def sampling(self) -> SamplingParams:
        return SamplingParams(
            guidance=self.guidance,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            greedy=self.greedy,
        )


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
