"""How an API key looks: ``sk_live_tt_`` or ``sk_test_tt_``, 30 random base62 digits, 6 of a checksum.

The vendor's ``tt_`` keeps it apart from other vendors' leak patterns. The checksum, CRC-32 of all that stands before
it, lets a typo be told from an unknown key, and a leak scanner find real keys only, both without asking a database.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from typing import Final, Literal

from api.auth.challenge import refused
from api.errors import ErrorCode

KeyMode = Literal["live", "test"]

PREFIXES: Final[dict[KeyMode, str]] = {"live": "sk_live_tt_", "test": "sk_test_tt_"}
RANDOM_DIGITS = 30  # 178 bits
CHECK_DIGITS = 6
ENTROPY_BYTES = 32
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SHAPE = re.compile(rf"[0-9A-Za-z]{{{RANDOM_DIGITS + CHECK_DIGITS}}}")
_SHOWN_TAIL = 4


def new_key(mode: KeyMode, entropy: bytes | None = None) -> str:
    """
    Args:
        entropy: 32 bytes that nobody can guess; left out: random ones. The same ones make the same key.
    """
    value = int.from_bytes(secrets.token_bytes(ENTROPY_BYTES) if entropy is None else entropy, "big")
    head = PREFIXES[mode] + _digits(value, RANDOM_DIGITS)
    return head + checksum(head)


def checksum(head: str) -> str:
    """CRC-32 of the prefix and the random digits as 6 base62 digits, the most significant first."""
    return _digits(zlib.crc32(head.encode()), CHECK_DIGITS)


def is_prefixed(text: str) -> bool:
    """Whether it means to be a key of this format; what has no prefix can only be a legacy key."""
    return text.startswith(tuple(PREFIXES.values()))


def refuse_mistyped(key: str) -> None:
    """
    Raises:
        ApiError: invalid_credentials, when a key with a prefix was cut or mistyped.
    """
    body = key.split("_tt_", 1)[1]
    if _SHAPE.fullmatch(body) is None:
        raise refused(
            ErrorCode.INVALID_CREDENTIALS,
            f"the API key is cut or has other characters in it: after its prefix come {RANDOM_DIGITS + CHECK_DIGITS} "
            "letters and digits. Copy it again, whole.",
        )
    if key[-CHECK_DIGITS:] != checksum(key[:-CHECK_DIGITS]):
        raise refused(
            ErrorCode.INVALID_CREDENTIALS, "the API key is mistyped: its checksum does not match. Copy it again, whole."
        )


def hint(key: str) -> str:
    """What may be shown of a key for ever: ``sk_live_tt_…wxyz``."""
    prefix = next((prefix for prefix in PREFIXES.values() if key.startswith(prefix)), "")
    return f"{prefix}…{key[-_SHOWN_TAIL:]}"


def _digits(value: int, count: int) -> str:
    """The last ``count`` base62 digits of a number."""
    digits = ""
    for _ in range(count):
        value, digit = divmod(value, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits
