"""Generations as clients see them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.generations.conditioning import melody_heard_s
from api.generations.style import excerpts
from api.generations.view import GenerationView, State, TrackView
from api.schemas.audio_facts import Channels, Duration, Loudness, Peak, SampleRate, Sha256, TotalSamples
from api.schemas.rules import filled

GENERATION_ID = "^gen_[0-9a-f]{24}$"


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
    extend_stride: float | None = Field(default=None, description="As asked for; null: the default, or one window")
    continuation: str | None = Field(default=None, description="The track or upload that they go on from")
    melody: str | None = Field(default=None, description="The track or upload whose tune they follow")
    melody_separation: Literal["none", "htdemucs"] | None = Field(
        default=None, description="What was taken out of the melody before; null: there is none"
    )
    guidance_beta: float | None = Field(default=None, description="As asked for; null: the default")
    style: str | None = Field(default=None, description="The track or upload that they are to sound like")
    style_excerpt: float | None = Field(default=None, description="Seconds of the style that are heard")
    style_streams: int | None = Field(default=None, description="How much of the excerpt is heard")


class MelodyHeard(BaseModel):
    """What was made of the melody."""

    duration: float = Field(description="Seconds of it, from its beginning, that can be heard in a track")
    source_separation: Literal["none", "htdemucs"] = Field(
        description="What was taken out of it before its tune was looked for: nothing, or drums and bass by Demucs"
    )


class StyleHeard(BaseModel):
    """What was heard of the style."""

    duration: float = Field(description="Seconds of each excerpt")
    starts: list[list[float]] = Field(
        description="Of each track, where in the style the excerpt of each of its windows begins, in seconds; one that "
        "would go beyond its end goes on from its beginning"
    )


class TrackLinks(BaseModel):
    audio: str = Field(description="The audio: while it is made as far as it is, afterwards whole and by Range")


class GenerationTrack(BaseModel):
    """One track. What is null is known when it is done."""

    id: str
    position: int = Field(description="0, 1, 2 …")
    seed: int
    state: State
    duration: Duration
    sample_rate: SampleRate
    channels: Channels
    total_samples: TotalSamples
    sha256: Sha256
    loudness_lufs: Loudness
    peak: Peak
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
    melody: MelodyHeard | None = Field(default=None, description="How the melody is listened to, if there is one")
    style: StyleHeard | None = Field(default=None, description="What of the style is heard, if there is one")
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
    links = GenerationLinks(
        self=here,
        events=f"{here}/events",
        audio=[each.links.audio for each in tracks],
        cancel=None if view.is_terminal else f"{here}/cancel",
    )
    shown = {
        "parameters": _parameters(view),
        "melody": _melody(view),
        "style": _style(view),
        "error": _error(view),
        "metadata": dict(view.metadata),
    }
    return filled(Generation, view, tracks=tracks, links=links, **shown)


def render(view: GenerationView, base_url: str | None = None) -> Mapping[str, Any]:
    """The same as JSON values: for events and webhooks."""
    return present(view, base_url).model_dump(mode="json")


def _error(view: GenerationView) -> GenerationError | None:
    """Of a failed one; what made an earlier attempt fail is nobody's business while it may still succeed."""
    if view.state != State.FAILED or view.error is None:
        return None
    return GenerationError(code=view.error["code"], message=view.error["message"])


def _parameters(view: GenerationView) -> Parameters:
    named: dict[str, Any] = {"model": view.model_id, "duration": view.duration_s}
    kept = {name: getattr(view, name) for name in ("prompt", "num_tracks", "seed", "format", "melody_separation")}
    named |= {"extend_stride": view.extend_stride_s}
    asked = view.conditioning or {}
    audio = {name: asked.get(name) for name in ("continuation", "melody", "style", "style_excerpt", "style_streams")}
    return filled(Parameters, view.sampling, **named, **kept, **audio)


def _melody(view: GenerationView) -> MelodyHeard | None:
    heard_s = melody_heard_s(view.conditioning)
    if heard_s is None:
        return None
    return filled(MelodyHeard, view, duration=round(heard_s, 3), source_separation=view.melody_separation)


def _style(view: GenerationView) -> StyleHeard | None:
    heard = excerpts(view)
    return None if heard is None else StyleHeard(duration=round(heard[0], 3), starts=heard[1])


def _track(track: TrackView, link: str) -> GenerationTrack:
    duration_s = track.total_samples / track.sample_rate if track.total_samples and track.sample_rate else None
    return filled(GenerationTrack, track, duration=duration_s, links=TrackLinks(audio=link))


def _audio_link(here: str, position: int, audio_format: str) -> str:
    return f"{here}/audio?track={position}&format={audio_format}"
