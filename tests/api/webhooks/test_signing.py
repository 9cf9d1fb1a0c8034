"""Signatures, as the reference implementation of Standard Webhooks checks them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from api.webhooks.signing import SECRET_BYTES, new_secret, signature, signed_headers

BODY = b'{"type":"generation.succeeded"}'


def test_a_secret_is_32_random_bytes_in_base64() -> None:
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == SECRET_BYTES
    assert secret != new_secret()


@given(st.text(), st.integers(0, 2**33))
def test_signed_as_the_reference_signs(body: str, timestamp: int) -> None:
    secret = new_secret()
    at = datetime.fromtimestamp(timestamp, UTC)
    data = body.encode("utf-8", "replace").decode()
    assert signature(secret, "evt_1", timestamp, data.encode()) == Webhook(secret).sign("evt_1", at, data)


def test_the_specifications_own_example() -> None:
    """From the test vector in the specification's repository."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_reference_verifies_with_either_secret_during_a_rotation_and_with_no_other() -> None:
    new, old = new_secret(), new_secret()
    headers = signed_headers([new, old], "evt_1", datetime.now(UTC), BODY)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (new, old):
        assert Webhook(secret).verify(BODY, headers) == {"type": "generation.succeeded"}
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


@pytest.mark.parametrize("changed", ["id", "body", "time"])
def test_what_is_altered_does_not_verify(changed: str) -> None:
    secret = new_secret()
    headers = signed_headers([secret], "evt_1", datetime.now(UTC), BODY)
    if changed == "id":
        headers["webhook-id"] = "evt_2"
    if changed == "time":
        headers["webhook-timestamp"] = str(int(headers["webhook-timestamp"]) - 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" " if changed == "body" else BODY, headers)


def test_an_old_delivery_does_not_verify() -> None:
    secret = new_secret()
    headers = signed_headers([secret], "evt_1", datetime.now(UTC) - timedelta(minutes=6), BODY)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(BODY, headers)
