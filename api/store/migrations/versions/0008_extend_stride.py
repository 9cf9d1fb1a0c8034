"""A generation knows how far each window of a long track moves on, if somebody chose it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("generations", sa.Column("extend_stride_s", sa.Float()))


def downgrade() -> None:
    with op.batch_alter_table("generations") as generations:
        generations.drop_column("extend_stride_s")
