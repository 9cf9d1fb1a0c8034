"""One secret of the installation, many keys: each purpose has its own, so that none can stand in for another.

Every gateway derives the same ones from ``TUTTI_SECRET_KEY``; nothing derived is stored. A new secret ends all
sessions and makes every API key unknown, since keys are stored as HMACs under it.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_KEY_BYTES = 32


def subkey(secret: str, purpose: str) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869); other purposes give unrelated ones."""
    kdf = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=f"tutti/v1/{purpose}".encode())
    return kdf.derive(secret.encode())


class Digest:
    """HMAC-SHA256 of credentials, in hex: what the database holds in their place."""

    def __init__(self, secret: str, purpose: str) -> None:
        self._key = subkey(secret, purpose)

    def raw(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode(), hashlib.sha256)

    def __call__(self, text: str) -> str:
        return self.raw(text).hex()
