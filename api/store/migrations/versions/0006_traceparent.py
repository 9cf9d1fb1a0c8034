"""A generation knows the trace of the call that made it, so that its worker goes on with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("generations", sa.Column("traceparent", sa.String(55)))


def downgrade() -> None:
    with op.batch_alter_table("generations") as generations:
        generations.drop_column("traceparent")
