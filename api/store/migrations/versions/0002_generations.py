"""Generations, tracks and what works on them.

Tracks as the first deployments had them: one call made one track, and no generation was written down for it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from api.store.types import Json, Serial, UtcDateTime

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", Serial, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("payload", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("available_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.String(40)),
        sa.Column("lease_expires_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_available_at", "outbox", ["available_at"])
    op.create_table(
        "workers",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("capacity", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    op.create_table(
        "generations",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("account_id", sa.String(40), nullable=False),
        sa.Column("api_key_id", sa.String(40)),
        sa.Column("test_mode", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("request_id", sa.String(40), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("tier", sa.String(32), nullable=False),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("num_tracks", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("sampling", Json, nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("conditioning", Json),
        sa.Column("cost_steps", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.String(200)),
        sa.Column("client_id", sa.String(200)),
        sa.Column("brief_id", sa.String(200)),
        sa.Column("collection", sa.String(200)),
        sa.Column("metadata", Json, server_default="{}", nullable=False),
        sa.Column("webhook_url", sa.Text()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("available_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("deadline_at", UtcDateTime(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.String(40)),
        sa.Column("lease_expires_at", UtcDateTime()),
        sa.Column("cancel_requested_at", UtcDateTime()),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("first_audio_at", UtcDateTime()),
        sa.Column("finished_at", UtcDateTime()),
        sa.Column("queue_wait_s", sa.Float()),
        sa.Column("real_time_factor", sa.Float()),
        sa.Column("error", Json),
        sa.Column("quota_windows", Json, server_default="[]", nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'expired')",
            name=op.f("ck_generations_state"),
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_generations_account_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_generations"),
    )
    op.create_index("ix_generations_account", "generations", ["account_id", "state", "model_id", "mode", "deadline_at"])
    op.create_index("ix_generations_expiry", "generations", ["state", "expires_at"])
    op.create_index("ix_generations_leases", "generations", ["state", "lease_expires_at"])
    op.create_index("ix_generations_newest", "generations", ["account_id", "created_at", "id"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("account_id", sa.String(40), nullable=False),
        sa.Column("object_key", sa.String(300), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("sample_rate", sa.Integer(), nullable=False),
        sa.Column("channels", sa.Integer(), nullable=False),
        sa.Column("total_samples", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_uploads_account_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    op.create_index("ix_uploads_account_id", "uploads", ["account_id"])
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"])
    op.create_table(
        "tracks",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("generation_id", sa.String(40)),
        sa.Column("account_id", sa.String(40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("object_key", sa.String(300)),
        sa.Column("sha256", sa.String(64)),
        sa.Column("sample_rate", sa.Integer()),
        sa.Column("channels", sa.Integer()),
        sa.Column("total_samples", sa.BigInteger()),
        sa.Column("loudness_lufs", sa.Float()),
        sa.Column("peak", sa.Float()),
        sa.Column("peaks", sa.LargeBinary()),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.String(200)),
        sa.Column("client_id", sa.String(200)),
        sa.Column("brief_id", sa.String(200)),
        sa.Column("collection", sa.String(200)),
        sa.Column("metadata", Json, server_default="{}", nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime()),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_tracks_account_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name="fk_tracks_generation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_tracks"),
        sa.UniqueConstraint("generation_id", "position", name="uq_tracks_generation_id_position"),
    )
    op.create_index("ix_tracks_gallery", "tracks", ["account_id", "created_at", "id"])
    op.create_index("ix_tracks_generation_id", "tracks", ["generation_id"])


def downgrade() -> None:
    op.drop_table("tracks")
    op.drop_table("uploads")
    op.drop_table("generations")
    op.drop_table("workers")
    op.drop_table("outbox")
