"""Every table of the platform, as SQLAlchemy Core. SQL is the truth; the cache holds only what may be lost.

A **generation** is one accepted call and makes N **tracks**. States of a generation:

    queued ──► running ──► succeeded
      │  ▲        │  ├───► failed
      │  └─retry──┘  └───► cancelling ──► cancelled
      ├──► cancelled
      └──► expired

``succeeded``, ``failed``, ``cancelled`` and ``expired`` never change again. A row in ``queued`` is its own dispatch
order: there is no second place where accepted work is written down. Everything else that must happen after a
transaction (webhooks, removal of objects) is a row of ``outbox`` in that transaction.
"""

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
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from api.store.types import Json, Serial, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID = 40  # "gen_" and 24 hex digits, with room

# ------------------------------------------------------------------------------------------ accounts
accounts = Table(
    "accounts",
    metadata,
    Column("id", String(_ID), primary_key=True),  # acc_…
    Column("email", String(320), unique=True),  # lower case; NULL for the local account and for erased ones
    Column("name", String(200), nullable=False, server_default=""),
    Column("password_hash", String(300)),  # Argon2id; NULL: no login by password
    Column("role", String(16), nullable=False, server_default="user"),  # user, operator, admin
    Column("tier", String(32), nullable=False, server_default="free"),  # a name in the tiers file
    Column("status", String(16), nullable=False, server_default="active"),  # active, suspended, erased
    # The fair queue's virtual clock: audio-seconds served to this account, lifted when it comes back from idle.
    Column("virtual_s", Float, nullable=False, server_default="0"),
    # Has queued generations: written by every transition, so that the fair queue looks at nobody else.
    Column("waiting", Boolean, nullable=False, server_default="0"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("erased_at", UtcDateTime),
    Index("ix_accounts_queue", "tier", "waiting", "virtual_s"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("id", String(_ID), primary_key=True),
    Column("family_id", String(_ID), nullable=False, index=True),  # one login and all that was refreshed from it
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
    Column("successor_id", String(_ID)),
    Column("revoked_at", UtcDateTime),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(_ID), primary_key=True),  # key_…
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(100), nullable=False),
    Column("hint", String(32), nullable=False),  # what may be shown of it: prefix and last four characters
    Column("key_hash", String(64), nullable=False, unique=True),  # HMAC-SHA256, hex
    Column("mode", String(8), nullable=False),  # live, test
    Column("scopes", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("successor_id", String(_ID)),  # rotated: this one still works until expires_at
)

# One wrapped data key per account and version; audio and secrets are encrypted with the data key.
data_keys = Table(
    "data_keys",
    metadata,
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("master_key_id", String(64), nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
)

# -------------------------------------------------------------------------------------------- limits
# One counter per account and window; reserved by `UPDATE … WHERE used < limit`, given back by failures.
usage_windows = Table(
    "usage_windows",
    metadata,
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("window", String(8), primary_key=True),  # hour, day, month
    Column("starts_at", UtcDateTime, primary_key=True),
    Column("generations", Integer, nullable=False, server_default="0"),
    Column("audio_s", Float, nullable=False, server_default="0"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_hash", String(64), nullable=False),  # of method, route and body
    Column("resource_id", String(_ID)),  # what the call created
    Column("response_status", Integer),  # NULL while the first call is in flight
    Column("response_body", Json),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)

# --------------------------------------------------------------------------------------- generations
generations = Table(
    "generations",
    metadata,
    Column("id", String(_ID), primary_key=True),  # gen_…
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("api_key_id", String(_ID)),
    Column("test_mode", Boolean, nullable=False, server_default="0"),
    Column("request_id", String(_ID), nullable=False),
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
    Column("sampling", Json, nullable=False),  # guidance, temperature, top_k, top_p, greedy
    Column("format", String(16), nullable=False),  # of the links handed out; any other can be asked for
    Column("extend_stride_s", Float),  # NULL: the default, or one window
    Column("conditioning", Json),  # melody, continuation: ids of tracks or uploads, and where their audio lies
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
    Column("lease_owner", String(_ID)),
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
    Column("id", String(_ID), primary_key=True),  # trk_…
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
    Column("id", String(_ID), primary_key=True),  # upl_…
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
    Column("lease_owner", String(_ID)),
    Column("lease_expires_at", UtcDateTime),
)

# What each worker can do: its share of the capacity behind `eta_s` and Retry-After.
workers = Table(
    "workers",
    metadata,
    Column("id", String(_ID), primary_key=True),  # wrk_…
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("capacity", Json, nullable=False),  # model id → {"slots": tracks at once, "steps_per_s": measured}
)

# ------------------------------------------------------------------------------------------ webhooks
webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", String(_ID), primary_key=True),  # whe_…
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("description", String(500), nullable=False, server_default=""),
    Column("events", Json, nullable=False),  # list of types; ["*"] for all
    Column("secret", LargeBinary, nullable=False),  # encrypted
    Column("previous_secret", LargeBinary),  # encrypted; also signs until previous_expires_at
    Column("previous_expires_at", UtcDateTime),
    Column("enabled", Boolean, nullable=False, server_default="1"),
    Column("disabled_reason", String(200)),
    Column("failing_since", UtcDateTime),  # the first failure after the last success
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("account_id", "url"),
)

# What signs the deliveries to a generation's own `webhook_url`: one secret per account.
webhook_signing_secrets = Table(
    "webhook_signing_secrets",
    metadata,
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("secret", LargeBinary, nullable=False),  # encrypted
    Column("previous_secret", LargeBinary),  # encrypted; also signs until previous_expires_at
    Column("previous_expires_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(_ID), primary_key=True),  # whd_…
    Column("event_id", String(_ID), nullable=False),  # evt_…: the webhook-id header, the same at every attempt
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("endpoint_id", ForeignKey("webhook_endpoints.id", ondelete="CASCADE")),  # NULL: a generation's webhook_url
    Column("url", Text, nullable=False),
    Column("event_type", String(60), nullable=False),
    Column("body", Text, nullable=False),  # exactly the bytes that are signed
    Column("state", String(16), nullable=False),  # pending, delivered, failed
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", UtcDateTime),
    Column("lease_owner", String(_ID)),
    Column("lease_expires_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    UniqueConstraint("event_id", "url"),
    Index("ix_webhook_deliveries_due", "state", "next_attempt_at"),
    Index("ix_webhook_deliveries_leases", "state", "lease_expires_at"),
    Index("ix_webhook_deliveries_endpoint", "endpoint_id", "created_at", "id"),
    Index("ix_webhook_deliveries_log", "account_id", "created_at", "id"),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("delivery_id", ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("duration_ms", Float, nullable=False),
    Column("status", Integer),  # NULL: no answer
    Column("error", String(300)),
    Column("response_excerpt", String(1000)),
)

# ------------------------------------------------------------------------------------ service levels
# Each process writes the counts of its own slots of five minutes; the error budget is their sum.
slo_events = Table(
    "slo_events",
    metadata,
    Column("slot", UtcDateTime, primary_key=True),
    Column("replica", String(_ID), primary_key=True),
    Column("sli", String(16), primary_key=True),
    Column("tier", String(32), primary_key=True),
    Column("good", Integer, nullable=False),
    Column("bad", Integer, nullable=False),
)
