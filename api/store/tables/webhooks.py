"""Who is told: endpoints, their secrets, deliveries and every attempt at one."""

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
    Text,
    UniqueConstraint,
)

from api.store.tables.base import ID_LENGTH, metadata
from api.store.types import Json, Serial, UtcDateTime

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", String(ID_LENGTH), primary_key=True),  # whe_…
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
    Column("id", String(ID_LENGTH), primary_key=True),  # whd_…
    Column("event_id", String(ID_LENGTH), nullable=False),  # evt_…: the webhook-id header, the same at every attempt
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("endpoint_id", ForeignKey("webhook_endpoints.id", ondelete="CASCADE")),  # NULL: a generation's webhook_url
    Column("url", Text, nullable=False),
    Column("event_type", String(60), nullable=False),
    Column("body", Text, nullable=False),  # exactly the bytes that are signed
    Column("state", String(16), nullable=False),  # pending, delivered, failed
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", UtcDateTime),
    Column("lease_owner", String(ID_LENGTH)),
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
