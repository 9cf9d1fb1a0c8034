"""Access tokens: what is in them, and everything that makes one worthless."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from api.auth.access_tokens import AccessClaims, AccessTokens
from api.errors import ApiError, ErrorCode
from tests.api.auth.conftest import ManualClock

SECRETS = ("s" * 40,)
TTL_S = 600


def part(token: str, index: int) -> dict[str, Any]:
    text = token.split(".")[index]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return decoded


def encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.fixture
def tokens(clock: ManualClock) -> AccessTokens:
    return AccessTokens(SECRETS, TTL_S, clock)


def refusal(tokens: AccessTokens, token: str) -> ErrorCode:
    with pytest.raises(ApiError) as refused:
        tokens.read(token)
    assert (refused.value.headers or {})["WWW-Authenticate"].endswith('error="invalid_token"')
    return refused.value.code


def test_a_token_says_whose_it_is_and_for_how_long(tokens: AccessTokens, clock: ManualClock) -> None:
    token = tokens.issue("acc_1", "ses_1")
    header, claims = part(token, 0), part(token, 1)
    assert header["alg"] == "Ed25519"
    assert len(header["kid"]) == 43  # an RFC 7638 thumbprint
    now = int(clock().timestamp())
    assert {name: claims[name] for name in ("iss", "aud", "sub", "sid", "iat", "exp")} == {
        "iss": "tutti",
        "aud": "tutti-api",
        "sub": "acc_1",
        "sid": "ses_1",
        "iat": now,
        "exp": now + TTL_S,
    }
    assert part(tokens.issue("acc_1", "ses_1"), 1)["jti"] != claims["jti"]
    assert tokens.read(token) == AccessClaims("acc_1", "ses_1")


def test_every_gateway_with_the_secret_reads_it_and_no_other(tokens: AccessTokens, clock: ManualClock) -> None:
    token = tokens.issue("acc_1", "ses_1")
    assert AccessTokens(SECRETS, 60, clock).read(token) == AccessClaims("acc_1", "ses_1")
    assert refusal(AccessTokens(("another" * 6,), TTL_S, clock), token) is ErrorCode.INVALID_CREDENTIALS


def test_it_expires_after_its_time_and_five_seconds_of_skew(tokens: AccessTokens, clock: ManualClock) -> None:
    token = tokens.issue("acc_1", "ses_1")
    clock.advance(TTL_S + 4)
    tokens.read(token)
    clock.advance(1)
    assert refusal(tokens, token) is ErrorCode.CREDENTIALS_EXPIRED


def test_a_gateway_whose_clock_is_behind_still_takes_it(tokens: AccessTokens, clock: ManualClock) -> None:
    token = tokens.issue("acc_1", "ses_1")
    clock.advance(-5)
    tokens.read(token)
    clock.advance(-1)
    assert refusal(tokens, token) is ErrorCode.INVALID_CREDENTIALS


def test_tampering_is_found(tokens: AccessTokens) -> None:
    head, _, signature = tokens.issue("acc_1", "ses_1").split(".")
    claims = part(tokens.issue("acc_1", "ses_1"), 1)
    other = encoded(claims | {"sub": "acc_2"})
    assert refusal(tokens, f"{head}.{other}.{signature}") is ErrorCode.INVALID_CREDENTIALS


@pytest.mark.parametrize("algorithm", ["none", "HS256", "EdDSA", "ES256", 1])
def test_no_other_algorithm_is_taken(tokens: AccessTokens, algorithm: Any) -> None:
    head, claims, signature = tokens.issue("acc_1", "ses_1").split(".")
    header = encoded(part(f"{head}.x", 0) | {"alg": algorithm})
    for ending in (signature, ""):
        assert refusal(tokens, f"{header}.{claims}.{ending}") is ErrorCode.INVALID_CREDENTIALS


def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(tokens: AccessTokens) -> None:
    claims = part(tokens.issue("acc_1", "ses_1"), 1)
    public = OctKey.import_key(tokens._key.public_key.public_bytes_raw())
    forged = jwt.encode({"alg": "HS256", "kid": tokens._key_id}, claims, public, algorithms=["HS256"])
    assert refusal(tokens, forged) is ErrorCode.INVALID_CREDENTIALS


def signed(tokens: AccessTokens, claims: dict[str, Any], **header: Any) -> str:
    head = {"alg": "Ed25519", "kid": tokens._key_id, **header}
    return jwt.encode(head, claims, tokens._key, algorithms=["Ed25519"])


@pytest.mark.parametrize("missing", ["iss", "aud", "exp", "iat", "sub", "jti", "sid"])
def test_every_claim_is_needed(tokens: AccessTokens, missing: str) -> None:
    claims = part(tokens.issue("acc_1", "ses_1"), 1)
    del claims[missing]
    assert refusal(tokens, signed(tokens, claims)) is ErrorCode.INVALID_CREDENTIALS


@pytest.mark.parametrize(
    "wrong", [{"iss": "other"}, {"aud": "other"}, {"exp": "soon"}, {"exp": 1e400}, {"sub": ""}, {"sub": 7}]
)
def test_a_claim_with_another_value_is_refused(tokens: AccessTokens, wrong: dict[str, Any]) -> None:
    claims = part(tokens.issue("acc_1", "ses_1"), 1) | wrong
    assert refusal(tokens, signed(tokens, claims)) is ErrorCode.INVALID_CREDENTIALS


def test_another_key_id_is_refused(tokens: AccessTokens) -> None:
    claims = part(tokens.issue("acc_1", "ses_1"), 1)
    assert refusal(tokens, signed(tokens, claims, kid="other")) is ErrorCode.INVALID_CREDENTIALS


@pytest.mark.parametrize("junk", ["", "a.b.c", "eyJ.eyJ.x", "eyJhbGciOiJFZDI1NTE5In0..", "ey\ud800.a.b"])
def test_junk_is_refused(tokens: AccessTokens, junk: str) -> None:
    assert refusal(tokens, junk) is ErrorCode.INVALID_CREDENTIALS
