"""Access tokens: short-lived JWTs signed with Ed25519 (RFC 9864), checkable by every gateway without a question."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import GuestProtocol, OKPKey

from api.auth.challenge import refused
from api.auth.derivation import SecretKeys, subkey
from api.clock import Clock
from api.errors import ErrorCode
from api.ids import new_id

ISSUER: Final = "tutti"
AUDIENCE: Final = "tutti-api"
_ALGORITHM: Final = "Ed25519"
_SKEW_S = 5  # by which the clocks of two gateways may differ


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a token says: whose it is and of which session. Role and tier are looked up, they may have changed."""

    account_id: str
    session_id: str


class AccessTokens:
    """Signs and checks access tokens.

    Args:
        secrets: of the installation; the keys are derived from them, so all gateways have the same. The first signs.
        ttl_s: seconds a token is valid.
    """

    def __init__(self, secrets: SecretKeys, ttl_s: float, clock: Clock) -> None:
        keys = [_signing_key(secret) for secret in secrets]
        self._key = keys[0]
        self._key_id = self._key.thumbprint()
        self._keys = {key.thumbprint(): key for key in keys}
        self._clock = clock
        self.ttl_s = int(ttl_s)
        # joserfc checks a claim only if asked: each of these must be there, and expiry is measured by our clock.
        self._registry = jwt.JWTClaimsRegistry(
            now=lambda: int(clock().timestamp()),
            leeway=_SKEW_S,
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            jti={"essential": True},
            sid={"essential": True},
        )

    def issue(self, account_id: str, session_id: str) -> str:
        now = self._clock()
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": account_id,
            "sid": session_id,
            "jti": new_id("jwt"),
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(seconds=self.ttl_s)).timestamp()),
        }
        return jwt.encode({"alg": _ALGORITHM, "kid": self._key_id}, claims, self._key, algorithms=[_ALGORITHM])

    def read(self, token: str) -> AccessClaims:
        """
        Raises:
            ApiError: credentials_expired, or invalid_credentials for everything else that is wrong with it.
        """
        try:
            decoded = jwt.decode(token, self._signer, algorithms=[_ALGORITHM])
            self._registry.validate(decoded.claims)
        except ExpiredTokenError:
            raise refused(
                ErrorCode.CREDENTIALS_EXPIRED,
                "the access token has expired: get a new one from POST /api/v1/auth/refresh",
            ) from None
        except (JoseError, ValueError):
            raise refused(ErrorCode.INVALID_CREDENTIALS, "the access token is not valid here: log in again") from None
        return AccessClaims(str(decoded.claims["sub"]), str(decoded.claims["sid"]))

    def _signer(self, token: GuestProtocol) -> OKPKey:
        """
        Raises:
            InvalidKeyIdError: the token names no key of ours.
        """
        key_id = token.headers().get("kid")
        if not isinstance(key_id, str) or key_id not in self._keys:
            raise InvalidKeyIdError("another key's")
        return self._keys[key_id]


def _signing_key(secret: str) -> OKPKey:
    return OKPKey.import_key(Ed25519PrivateKey.from_private_bytes(subkey(secret, "access-token")))
