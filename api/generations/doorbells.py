"""Channels of the bus that workers listen to. Every ring may be lost: they look by themselves besides."""

from __future__ import annotations

JOBS = "jobs"
"""Something was queued, or a queued generation may be leased now."""
CANCEL = "cancel"
"""Somebody asked for a cancel: heartbeats see which."""

PATIENCE_S = 60.0
