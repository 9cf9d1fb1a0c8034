"""Names for things: unguessable, with a prefix that says what they name."""

from __future__ import annotations

import secrets


def new_id(prefix: str) -> str:
    """``gen_`` and 24 hex digits: 96 random bits."""
    return f"{prefix}_{secrets.token_hex(12)}"
