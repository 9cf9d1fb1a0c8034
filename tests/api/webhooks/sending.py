"""One attempt, in one line."""

from __future__ import annotations

import ssl

from api.webhooks.guard import Guard, Resolve
from api.webhooks.sender import Outcome, Sender
from api.webhooks.targets import Rules
from tests.api.webhooks.conftest import HOST, ManualClock, Names

OPEN = Rules(allow_http=True, allow_private=True)
BODY = b'{"type":"webhook.test"}'


def sender(
    rules: Rules = OPEN, names: Resolve | None = None, timeout_s: float = 15.0, tls: ssl.SSLContext | None = None
) -> Sender:
    return Sender(Guard(rules, names or Names({HOST: ["127.0.0.1"]})), ManualClock(), timeout_s, tls)


async def post(url: str, sending: Sender | None = None) -> Outcome:
    return await (sending or sender()).post(url, {"webhook-id": "evt_1"}, BODY)
