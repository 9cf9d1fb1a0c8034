"""Give every track that has none a generation of its own, as if that had been asked for and had ended.

The generation's id is the track's with another prefix, so that the same track always gets the same one and the
step can be undone. What was never written down (sampling, cost) stays empty.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from api.store.types import Json, UtcDateTime

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None

LEGACY = "req_legacy"
_SAME = ("account_id", "model_id", "prompt", "seed", "campaign_id", "client_id", "brief_id", "collection", "metadata")


def _column(name: str) -> sa.ColumnClause[Any]:
    types: dict[str, sa.types.TypeEngine[Any]] = {
        "metadata": Json,
        "sampling": Json,
        "error": Json,
        **dict.fromkeys(("created_at", "finished_at", "available_at", "expires_at", "deadline_at"), UtcDateTime()),
    }
    return sa.column(name, types.get(name))


accounts = sa.table("accounts", _column("id"), _column("tier"))
tracks = sa.table(
    "tracks",
    *map(_column, ("id", "generation_id", "position", "state", "total_samples", "sample_rate")),
    *map(_column, ("created_at", "finished_at", *_SAME)),
)
_TIMES = ("created_at", "available_at", "expires_at", "deadline_at", "finished_at")
_REST = ("id", "request_id", "state", "mode", "tier", "duration_s", "num_tracks", "sampling", "format", "cost_steps")
generations = sa.table("generations", *map(_column, (*_SAME, *_TIMES, *_REST, "attempt", "error")))


def upgrade() -> None:
    alone = tracks.c.generation_id.is_(None)
    made = sa.literal("gen_") + sa.func.substr(tracks.c.id, 5)
    whole = tracks.c.state == "succeeded"
    seconds = sa.cast(tracks.c.total_samples, sa.Float) / sa.func.nullif(tracks.c.sample_rate, 0)
    error = {"code": "generation_failed", "message": "The track was not finished when its generation was written down."}
    values: dict[str, sa.ColumnElement[Any]] = {
        **{name: tracks.c[name] for name in _SAME},
        **dict.fromkeys(_TIMES, tracks.c.created_at),
        "finished_at": sa.func.coalesce(tracks.c.finished_at, tracks.c.created_at),
        "id": made,
        "request_id": sa.literal(LEGACY),
        "state": sa.case((whole, "succeeded"), else_="failed"),
        "mode": sa.literal("async"),
        "tier": accounts.c.tier,
        "duration_s": sa.func.coalesce(seconds, 0.0),
        "num_tracks": sa.literal(1),
        "sampling": sa.literal({}, Json),
        "format": sa.literal("wav"),
        "cost_steps": sa.literal(0),
        "attempt": sa.literal(1),
        "error": sa.case((whole, sa.null()), else_=sa.literal(error, Json)),
    }
    found = sa.select(*values.values()).select_from(tracks.join(accounts, accounts.c.id == tracks.c.account_id))
    op.execute(generations.insert().from_select(list(values), found.where(alone)))
    op.execute(
        tracks.update()
        .where(alone)
        .values(generation_id=made, position=0, state=sa.case((whole, "succeeded"), else_="failed"))
    )


def downgrade() -> None:
    legacy = sa.select(generations.c.id).where(generations.c.request_id == LEGACY)
    op.execute(tracks.update().where(tracks.c.generation_id.in_(legacy)).values(generation_id=None))
    op.execute(generations.delete().where(generations.c.request_id == LEGACY))
