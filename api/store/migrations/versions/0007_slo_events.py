"""Good and bad events by slot of time, for the error budget."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from api.store.types import UtcDateTime

revision = "0007"
down_revision: str | None = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slo_events",
        sa.Column("slot", UtcDateTime(), nullable=False),
        sa.Column("replica", sa.String(40), nullable=False),
        sa.Column("sli", sa.String(16), nullable=False),
        sa.Column("tier", sa.String(32), nullable=False),
        sa.Column("good", sa.Integer(), nullable=False),
        sa.Column("bad", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("slot", "replica", "sli", "tier", name=op.f("pk_slo_events")),
    )


def downgrade() -> None:
    op.drop_table("slo_events")
