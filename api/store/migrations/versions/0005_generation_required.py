"""A track belongs to a generation, always."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("tracks") as tracks:
        tracks.alter_column("generation_id", existing_type=sa.String(40), nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("tracks") as tracks:
        tracks.alter_column("generation_id", existing_type=sa.String(40), nullable=True)
