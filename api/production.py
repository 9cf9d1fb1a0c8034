"""What production refuses: secrets that nobody gave it, and what is good enough for one's own machine only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.secret_keys import development_secret_key, parse_previous_secret_keys

if TYPE_CHECKING:
    from api.settings import Settings


def unfit(settings: Settings) -> list[str]:
    """What to do before these settings may serve others; empty: nothing."""
    needed = {
        "TUTTI_SECRET_KEY": (settings.secret_key, "openssl rand -base64 32"),
        "TUTTI_MASTER_KEYS": (settings.master_keys, 'echo "1:$(openssl rand -base64 32)"'),
    }
    lax = {
        "TUTTI_WEBHOOK_ALLOW_HTTP": settings.webhook_allow_http,
        "TUTTI_WEBHOOK_ALLOW_PRIVATE": settings.webhook_allow_private,
    }
    return [
        *(f"set {name} (make one with: {how})" for name, (value, how) in needed.items() if value is None),
        *(f"unset {name}" for name, allowed in lax.items() if allowed),
        *_development_secrets(settings),
    ]


def _development_secrets(settings: Settings) -> list[str]:
    made = development_secret_key(settings.data_dir)
    given = {
        "TUTTI_SECRET_KEY": (settings.secret_key,),
        "TUTTI_PREVIOUS_SECRET_KEYS": parse_previous_secret_keys(settings.previous_secret_keys),
    }
    return [
        f"take the secret that development made in {settings.data_dir} out of {name}"
        for name, keys in given.items()
        if made is not None and made in keys
    ]
