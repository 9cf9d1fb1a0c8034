"""Who calls: accounts, their sessions and keys, and what they have used of their limits."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
)

from api.store.tables.base import ID_LENGTH, metadata
from api.store.types import Json, UtcDateTime

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(ID_LENGTH), primary_key=True),  # acc_…
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
    Column("id", String(ID_LENGTH), primary_key=True),
    Column("family_id", String(ID_LENGTH), nullable=False, index=True),  # one login and all that was refreshed from it
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
    Column("successor_id", String(ID_LENGTH)),
    Column("revoked_at", UtcDateTime),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(ID_LENGTH), primary_key=True),  # key_…
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
    Column("successor_id", String(ID_LENGTH)),  # rotated: this one still works until expires_at
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
    Column("resource_id", String(ID_LENGTH)),  # what the call created
    Column("response_status", Integer),  # NULL while the first call is in flight
    Column("response_body", Json),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)
