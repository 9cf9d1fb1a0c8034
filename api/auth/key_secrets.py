"""What API keys read, and what of that is stored: an HMAC under a key derived from the installation's secret.

A call with an idempotency key can be answered again although nothing readable is stored: such a key is an HMAC of the
client's idempotency key and its own id. The former is forgotten after a day, and with it the way back.
"""

from __future__ import annotations

from api.auth import key_format
from api.auth.derivation import Digests, SecretKeys
from api.auth.key_format import KeyMode
from api.auth.key_records import Once


class KeySecrets:
    """
    Args:
        secrets: of the installation; the first makes and hashes what is new.
    """

    def __init__(self, secrets: SecretKeys) -> None:
        self._hashes = Digests(secrets, "api-key")
        self._made_once = Digests(secrets, "api-key-made-once")

    def new(self, mode: KeyMode, key_id: str, once: Once | None) -> str:
        return self._repeatable(mode, key_id, once)[0] if once is not None else key_format.new_key(mode)

    def again(self, mode: KeyMode, key_id: str, once: Once, stored: str) -> str | None:
        """What ``new`` made for this call before; None: its secret is gone.

        Args:
            stored: the key's hash.
        """
        return next((key for key in self._repeatable(mode, key_id, once) if stored in self._hashes.every(key)), None)

    def hash(self, key: str) -> str:
        """What is stored of a key."""
        return self._hashes(key)

    def hashes(self, key: str) -> list[str]:
        """What may be stored of a key, by each secret; the first is what ``hash`` gives."""
        return self._hashes.every(key)

    def _repeatable(self, mode: KeyMode, key_id: str, once: Once) -> list[str]:
        return [key_format.new_key(mode, entropy) for entropy in self._made_once.every_raw(f"{key_id} {once.key}")]
