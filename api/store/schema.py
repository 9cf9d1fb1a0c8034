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

from api.store.tables.accounts import (
    accounts,
    api_keys,
    data_keys,
    idempotency_keys,
    refresh_tokens,
    usage_windows,
)
from api.store.tables.base import metadata
from api.store.tables.generations import (
    generations,
    outbox,
    tracks,
    uploads,
    workers,
)
from api.store.tables.service_levels import (
    slo_events,
)
from api.store.tables.webhooks import (
    webhook_attempts,
    webhook_deliveries,
    webhook_endpoints,
    webhook_signing_secrets,
)

__all__ = [
    "accounts",
    "api_keys",
    "data_keys",
    "generations",
    "idempotency_keys",
    "metadata",
    "outbox",
    "refresh_tokens",
    "slo_events",
    "tracks",
    "uploads",
    "usage_windows",
    "webhook_attempts",
    "webhook_deliveries",
    "webhook_endpoints",
    "webhook_signing_secrets",
    "workers",
]
