"""One secret of the installation, many keys: each purpose has its own, so that none can stand in for another.

Every gateway derives the same ones from ``TUTTI_SECRET_KEY``; nothing derived is stored. A new secret makes all that is
new. What an earlier one made is recognised for as long as that one stands in ``TUTTI_PREVIOUS_SECRET_KEYS``, and is
made anew when it is used; once it is gone, so are the sessions and API keys that still hung on it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TypeAlias

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SecretKeys: TypeAlias = tuple[str, ...]
"""The installation's secret, and behind it those that it replaced, the newest first."""

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


class Digests:
    """A ``Digest`` under every secret: the first makes what is new, all of them recognise what is there."""

    def __init__(self, secrets: SecretKeys, purpose: str) -> None:
        self._digests = [Digest(secret, purpose) for secret in secrets]

    def __call__(self, text: str) -> str:
        """Under the current secret."""
        return self._digests[0](text)

    def every(self, text: str) -> list[str]:
        """Under each secret, the current one first."""
        return [digest(text) for digest in self._digests]

    def every_raw(self, text: str) -> list[bytes]:
        return [digest.raw(text) for digest in self._digests]
