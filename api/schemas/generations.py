"""Generations as clients ask for them and see them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.formats.base import AudioFormat
from api.generations.view import CreateGeneration, GenerationView, State, TrackView
from api.schemas.generate import MusicBody
from api.webhooks.targets import MAX_URL_CHARACTERS

GENERATION_ID = "^gen_[0-9a-f]{24}$"
MAX_TRACKS = 64
MAX_METADATA_KEYS = 50
_SAFE_INTEGER = 2**53


def _one_line(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("must be one line of text without control characters")
    return text


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold the character U+0000")
    return text


_Label = Annotated[str, AfterValidator(_one_line), Field(min_length=1, max_length=200)]
_Key = Annotated[str, AfterValidator(_one_line), Field(min_length=1, max_length=40)]
_Text = Annotated[str, AfterValidator(_storable), Field(max_length=500)]
_Integer = Annotated[int, Field(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER)]
_Number = Annotated[float, Field(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER, allow_inf_nan=False)]
_Audio = Annotated[str, Field(pattern="^(trk|upl)_[0-9a-f]{24}$")]


class GenerationBody(MusicBody):
    """One or several tracks of music to make."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "a warm lo-fi beat with soft piano and vinyl crackle"},
                {
                    "prompt": "driving techno, 128 bpm, deep bass, no vocals",
                    "model": "tiny",
                    "duration": 12.5,
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


class Parameters(BaseModel):
    """Sent as a request again, they make the same audio."""

    prompt: str
    model: str
    duration: float = Field(description="Seconds of each track")
    num_tracks: int
    seed: int = Field(description="Of track 0")
    guidance: float
    temperature: float
    top_k: int
    top_p: float
    greedy: bool
    format: str


class TrackLinks(BaseModel):
    audio: str = Field(description="The audio: while it is made as far as it is, afterwards whole and by Range")


class GenerationTrack(BaseModel):
    """One track. What is null is known when it is done."""

    id: str
    position: int = Field(description="0, 1, 2 …")
    seed: int
    state: State
    duration: float | None = Field(description="Seconds, exact")
    sample_rate: int | None = Field(description="Hz")
    channels: int | None
    total_samples: int | None = Field(description="Samples per channel")
    sha256: str | None = Field(description="Of the float32 samples, as format wav32f has them after its header")
    loudness_lufs: float | None = Field(description="Integrated loudness (BS.1770); null also for silence")
    peak: float | None = Field(description="Largest sample, without sign; 1 is full scale")
    links: TrackLinks


class GenerationError(BaseModel):
    code: str = Field(description="As in the error envelope")
    message: str


class GenerationLinks(BaseModel):
    self: str
    events: str = Field(description="Server-sent events: a snapshot, then every change and, if asked for, the audio")
    audio: list[str] = Field(description="Of each track, in the format that was asked for")
    cancel: str | None = Field(description="POST here to stop it; null when it has ended")


class Generation(BaseModel):
    """One generation as it is now."""

    id: str = Field(pattern=GENERATION_ID)
    state: State = Field(
        description="queued, running, cancelling; then succeeded, failed, cancelled or expired for ever"
    )
    version: int = Field(description="Counts state changes")
    mode: str = Field(description="async, or stream for one made by POST /api/v1/generate/stream")
    test_mode: bool = Field(description="Made with a test key: not counted against the quota")
    parameters: Parameters
    tracks: list[GenerationTrack]
    created_at: datetime
    started_at: datetime | None
    first_audio_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime = Field(description="If it still waits then, it expires and its quota is given back")
    queue_position: int | None = Field(description="1 is next; null unless queued")
    eta_s: float | None = Field(description="Seconds until it is done, by the work outstanding; null: cannot be known")
    queue_wait_s: float | None = Field(description="Seconds it waited before work on it began")
    real_time_factor: float | None = Field(description="Seconds of music made per second, all tracks together")
    attempt: int = Field(description="1 unless it had to be begun again")
    error: GenerationError | None = Field(description="Why it failed")
    webhook_url: str | None
    campaign_id: str | None
    client_id: str | None
    brief_id: str | None
    collection: str | None
    metadata: dict[str, Any]
    links: GenerationLinks


def path_of(generation_id: str) -> str:
    return f"/api/v1/generate/{generation_id}"


def present(view: GenerationView, base_url: str | None = None) -> Generation:
    """A generation as its owner sees it.

    Args:
        base_url: before every link; without one links are relative to the request.
    """
    here = f"{base_url or ''}{path_of(view.id)}"
    tracks = [_track(each, _audio_link(here, each.position, view.format)) for each in view.tracks]
    return Generation(
        **{name: getattr(view, name) for name in _SAME},
        parameters=_parameters(view),
        tracks=tracks,
        error=_error(view),
        metadata=dict(view.metadata),
        links=GenerationLinks(
            self=here,
            events=f"{here}/events",
            audio=[each.links.audio for each in tracks],
            cancel=None if view.is_terminal else f"{here}/cancel",
        ),
    )


_SAME = (
    *("id", "state", "version", "mode", "test_mode", "created_at", "started_at", "first_audio_at", "finished_at"),
    *("expires_at", "queue_position", "eta_s", "queue_wait_s", "real_time_factor", "attempt", "webhook_url"),
    *("campaign_id", "client_id", "brief_id", "collection"),
)


def render(view: GenerationView, base_url: str | None = None) -> Mapping[str, Any]:
    """The same as JSON values: for events and webhooks."""
    return present(view, base_url).model_dump(mode="json")


def _error(view: GenerationView) -> GenerationError | None:
    """Of a failed one; what made an earlier attempt fail is nobody's business while it may still succeed."""
    if view.state != State.FAILED or view.error is None:
        return None
    return GenerationError(code=view.error["code"], message=view.error["message"])


def _parameters(view: GenerationView) -> Parameters:
    sampling = view.sampling
    return Parameters(
        prompt=view.prompt,
        model=view.model_id,
        duration=view.duration_s,
        num_tracks=view.num_tracks,
        seed=view.seed,
        guidance=sampling.guidance,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        greedy=sampling.greedy,
        format=view.format,
    )


def _track(track: TrackView, link: str) -> GenerationTrack:
    duration_s = track.total_samples / track.sample_rate if track.total_samples and track.sample_rate else None
    return GenerationTrack(
        id=track.id,
        position=track.position,
        seed=track.seed,
        state=track.state,
        duration=duration_s,
        sample_rate=track.sample_rate,
        channels=track.channels,
        total_samples=track.total_samples,
        sha256=track.sha256,
        loudness_lufs=track.loudness_lufs,
        peak=track.peak,
        links=TrackLinks(audio=link),
    )


def _audio_link(here: str, position: int, audio_format: str) -> str:
    return f"{here}/audio?track={position}&format={audio_format}"
