"""What no log may hold, and how tests read a log."""

from __future__ import annotations

import io
import json
from typing import Any

PROMPT = "a waltz for Aunt Mathilda's 80th birthday"
# What must never be seen in a log, wherever in a value it stands.
SECRETS = {
    "live key": "sk_live_tt_0123456789abcdefghijABCDEFGHIJ012345",
    "test key": "sk_test_tt_0123456789abcdefghijABCDEFGHIJ012345",
    "old key": "sk_9f8e7d6c5b4a39281706",
    "access token": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhY2NfMSJ9.c2lnbmF0dXJl_-0",
    "refresh token": "rt_tt_fedcba9876543210fedcba98",
    "browser session": "cs_tt_fedcba9876543210fedcba98",
    "bearer": "Bearer abcdefghijklmnop",
    "basic": "Basic dXNlcjpwYXNzd29yZA==",
    "webhook secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "email": "Mathilda.O'Neil+music@example.co.uk",
    "url password": "postgresql+asyncpg://tutti:hunter2@db.internal/tutti",
    "query": "https://hooks.example.com/in?token=abc123",
    "argon2": "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2g",
    "private key": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----",
    "pydantic": f"1 validation error\n  input_value='{PROMPT}', input_type=str]",
    "sqlalchemy": f"[SQL: INSERT INTO tracks VALUES (?)]\n[parameters: ('{PROMPT}', 7)]\n(Background on this error)",
    "postgresql": "DETAIL:  Key (prompt)=(a waltz for Aunt) already exists.",
}
TELLTALES = (
    "0123456789abcdef", "fedcba98", "9f8e7d6c", "eyJ", "c2lnbmF0", "abcdefghijklmnop", "dXNlcjpw", "MfKQ9r8",
    "Mathilda", "hunter2", "abc123", "c29tZXNhbHQ", "MC4CAQ", "waltz",
)  # fmt: skip


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]
