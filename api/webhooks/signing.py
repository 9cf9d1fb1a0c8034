"""Standard Webhooks 1.0.0 (https://www.standardwebhooks.com): secrets and signatures.

``webhook-signature: v1,<base64 of HMAC-SHA256(secret, "{webhook-id}.{webhook-timestamp}.{body}")>``; while a secret is
being rotated, both secrets sign and a space separates the two.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
# A replaced secret also signs for this long: the time its owner has to bring the new one to the receivers.
ROTATION_OVERLAP: Final = timedelta(hours=24)


def new_secret() -> str:
    """``whsec_`` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """One entry of the webhook-signature header.

    Args:
        timestamp: seconds since the epoch; the same number as in the webhook-timestamp header.
    """
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    digest = hmac.digest(key, b"%s.%d.%s" % (event_id.encode(), timestamp, body), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def signed_headers(signing: Sequence[str], event_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers of one attempt.

    Args:
        signing: the secrets that are valid at this moment, the newest first.
        event_id: the same at every attempt, so that receivers know what they have seen.
        at: when this attempt is made.
    """
    timestamp = int(at.timestamp())
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, event_id, timestamp, body) for secret in signing),
    }
