"""A generation as everybody but SQL sees it: what is asked for, what comes back, and the states in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import RowMapping

from autoscaling import fairness
from models.types import SamplingParams

Mode = fairness.Mode


class State(StrEnum):
    """Where a generation is in its life; the terminal ones never change again."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})
LEASED = frozenset({State.RUNNING, State.CANCELLING})
"""A worker holds it."""


@dataclass(frozen=True, slots=True)
class CreateGeneration:
    """One call's wish, valid in itself; what the tier and the model allow is checked when it is accepted.

    Attributes:
        model_id: None: the default model.
        duration_s: seconds of each track; None: the default, or the model's maximum if that is less.
        seed: of track 0; None: one is minted. Track i has seed + i, modulo 2**63.
        format: of the links handed out.
        extend_stride_s: seconds by which each window of a track longer than one moves on; None: the default.
        melody_separation: what is taken out of the melody before its tune is looked for; None: as the model is set up.
        conditioning: melody, continuation, style, by id, and how the style is heard; None: text only.
    """

    prompt: str
    model_id: str | None = None
    duration_s: float | None = None
    num_tracks: int = 1
    seed: int | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    format: str = "wav"
    extend_stride_s: float | None = None
    conditioning: Mapping[str, Any] | None = None
    melody_separation: str | None = None
    campaign_id: str | None = None
    client_id: str | None = None
    brief_id: str | None = None
    collection: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    webhook_url: str | None = None


@dataclass(frozen=True, slots=True)
class TrackView:
    """One track. What is None until it is stored: everything from ``object_key`` on but ``peaks``, which is not here.

    Attributes:
        sha256: of the float32 samples before encryption.
        loudness_lufs: integrated loudness; None also for silence.
        peak: largest absolute sample.
    """

    id: str
    generation_id: str
    account_id: str
    position: int
    seed: int
    state: State
    object_key: str | None = None
    sha256: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    total_samples: int | None = None
    loudness_lufs: float | None = None
    peak: float | None = None
    finished_at: datetime | None = None

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        values = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**{**values, "state": State(row["state"])})


@dataclass(frozen=True, slots=True)
class GenerationView:
    """One generation and its tracks, at one moment.

    Attributes:
        version: counts state changes; the first part of every resume id.
        seed: of track 0.
        traceparent: of the trace (W3C) that the call began; None: it is not traced.
        available_at: no worker takes it before; later than ``created_at`` between two attempts.
        expires_at: it expires if it waits then.
        queue_wait_s: seconds from acceptance to the first lease.
        real_time_factor: seconds of music, over all tracks, per second of work; above 1 is faster than it plays.
        error: {"code": …, "message": …} of a failed one.
        queue_position: 1 is next; None unless queued.
        eta_s: seconds until it is done, from the outstanding steps; None unless queued or running.
    """

    id: str
    account_id: str
    state: State
    version: int
    mode: Mode
    tier: str
    test_mode: bool
    model_id: str
    prompt: str
    duration_s: float
    num_tracks: int
    seed: int
    sampling: SamplingParams
    format: str
    extend_stride_s: float | None
    conditioning: Mapping[str, Any] | None
    cost_steps: int
    campaign_id: str | None
    client_id: str | None
    brief_id: str | None
    collection: str | None
    metadata: Mapping[str, Any]
    webhook_url: str | None
    request_id: str
    traceparent: str | None
    created_at: datetime
    available_at: datetime
    expires_at: datetime
    deadline_at: datetime
    attempt: int
    started_at: datetime | None
    first_audio_at: datetime | None
    finished_at: datetime | None
    queue_wait_s: float | None
    real_time_factor: float | None
    error: Mapping[str, Any] | None
    tracks: tuple[TrackView, ...]
    queue_position: int | None = None
    eta_s: float | None = None

    @classmethod
    def of(cls, row: RowMapping, tracks: Sequence[TrackView]) -> Self:
        """From a row of ``generations`` and its tracks in order."""
        derived = ("tracks", "queue_position", "eta_s")
        values = {name: row[name] for name in cls.__dataclass_fields__ if name not in derived}
        values |= {"state": State(row["state"]), "sampling": SamplingParams(**row["sampling"])}
        return cls(**values, tracks=tuple(tracks))

    @property
    def is_terminal(self) -> bool:
        return self.state.is_terminal

    @property
    def melody_separation(self) -> str | None:
        """What is taken out of its melody before its tune is looked for; None: it has none."""
        kept: str | None = (self.conditioning or {}).get("source_separation")
        return kept

    def with_progress(self, queue_position: int | None, eta_s: float | None) -> Self:
        return replace(self, queue_position=queue_position, eta_s=eta_s)


@dataclass(frozen=True, slots=True)
class Created:
    """What a create call answers with.

    Attributes:
        replayed: the idempotency key had been used: nothing was made, this is what the first call made.
    """

    view: GenerationView
    replayed: bool = False
