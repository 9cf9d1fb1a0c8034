"""What is made: generations, their tracks, uploads, and the work and the workers behind them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from api.store.tables.base import ID_LENGTH, metadata
from api.store.types import Json, Serial, UtcDateTime

generations = Table(
    "generations",
    metadata,
    Column("id", String(ID_LENGTH), primary_key=True),  # gen_…
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("api_key_id", String(ID_LENGTH)),
    Column("test_mode", Boolean, nullable=False, server_default="0"),
    Column("request_id", String(ID_LENGTH), nullable=False),
    Column("traceparent", String(55)),  # W3C trace context of the call; NULL: it was not traced
    Column("state", String(16), nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),  # counts state changes: fences leases, dates events
    Column("mode", String(8), nullable=False),  # async, stream
    Column("tier", String(32), nullable=False),
    # What to make: enough to make the same audio again.
    Column("model_id", String(64), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("num_tracks", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),  # of track 0; track i has seed + i
    Column("sampling", Json, nullable=False),  # guidance, temperature, top_k, top_p, greedy; guidance_beta if asked for
    Column("format", String(16), nullable=False),  # of the links handed out; any other can be asked for
    Column("extend_stride_s", Float),  # NULL: the default, or one window
    Column("conditioning", Json),  # melody, continuation, style: ids of tracks or uploads, and where their audio lies
    Column("cost_steps", Integer, nullable=False),  # decoder steps of all tracks, exact
    # What it belongs to, in the client's words.
    Column("campaign_id", String(200)),
    Column("client_id", String(200)),
    Column("brief_id", String(200)),
    Column("collection", String(200)),
    Column("metadata", Json, nullable=False, server_default="{}"),
    Column("webhook_url", Text),
    # Its life.
    Column("created_at", UtcDateTime, nullable=False),
    Column("available_at", UtcDateTime, nullable=False),  # not leased before
    Column("expires_at", UtcDateTime, nullable=False),  # a queued generation expires then
    Column("deadline_at", UtcDateTime, nullable=False),  # promised by the tier
    Column("attempt", Integer, nullable=False, server_default="0"),  # 1 for the first lease; given back, again 1
    Column("lease_owner", String(ID_LENGTH)),
    Column("lease_expires_at", UtcDateTime),
    Column("cancel_requested_at", UtcDateTime),
    Column("started_at", UtcDateTime),
    Column("first_audio_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("queue_wait_s", Float),
    Column("real_time_factor", Float),
    Column("error", Json),  # {"code": …, "message": …}
    Column("quota_windows", Json, nullable=False, server_default="[]"),  # what to give back, and whether it was
    CheckConstraint(
        "state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'expired')", name="state"
    ),
    Index("ix_generations_expiry", "state", "expires_at"),
    Index("ix_generations_leases", "state", "lease_expires_at"),
    Index("ix_generations_account", "account_id", "state", "model_id", "mode", "deadline_at"),
    Index("ix_generations_newest", "account_id", "created_at", "id"),
)

tracks = Table(
    "tracks",
    metadata,
    Column("id", String(ID_LENGTH), primary_key=True),  # trk_…
    Column("generation_id", ForeignKey("generations.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),  # 0 … num_tracks - 1
    Column("seed", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # as the generation's
    # The finished audio: float32 samples, encrypted, in the object store.
    Column("object_key", String(300)),
    Column("sha256", String(64)),  # of the float32 samples before encryption
    Column("sample_rate", Integer),
    Column("channels", Integer),
    Column("total_samples", BigInteger),
    Column("loudness_lufs", Float),
    Column("peak", Float),
    Column("peaks", LargeBinary),  # int8 minima and maxima of 1,000 bins
    # Repeated from the generation, for the gallery's filters.
    Column("model_id", String(64), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("campaign_id", String(200)),
    Column("client_id", String(200)),
    Column("brief_id", String(200)),
    Column("collection", String(200)),
    Column("metadata", Json, nullable=False, server_default="{}"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    UniqueConstraint("generation_id", "position"),
    Index("ix_tracks_gallery", "account_id", "created_at", "id"),
)

# Audio that clients brought: decoded, checked and encrypted before a row exists.
uploads = Table(
    "uploads",
    metadata,
    Column("id", String(ID_LENGTH), primary_key=True),  # upl_…
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("object_key", String(300), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("sample_rate", Integer, nullable=False),
    Column("channels", Integer, nullable=False),
    Column("total_samples", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)

# Work that a transaction leaves behind: done by leased workers, at least once.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("kind", String(40), nullable=False),  # webhook.event, object.delete
    Column("payload", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("available_at", UtcDateTime, nullable=False, index=True),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("lease_owner", String(ID_LENGTH)),
    Column("lease_expires_at", UtcDateTime),
)

# What each worker can do: its share of the capacity behind `eta_s` and Retry-After.
workers = Table(
    "workers",
    metadata,
    Column("id", String(ID_LENGTH), primary_key=True),  # wrk_…
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("capacity", Json, nullable=False),  # model id → {"slots": tracks at once, "steps_per_s": measured}
)
