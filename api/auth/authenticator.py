"""From a request to the principal behind it.

What was found is remembered for ``CACHE_S`` seconds in each process: a credential that is revoked, an account that is
suspended or moved to another tier is refused (or seen anew) at once in the process that does it, and after at most that
time in all others. An expiry is looked at every time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import HTTPConnection

from api.auth import key_format, sessions
from api.auth.access_tokens import AccessClaims, AccessTokens
from api.auth.api_keys import ApiKeys
from api.auth.challenge import refused
from api.auth.credentials import Credential, cookie_name, read_credential
from api.auth.csrf import CsrfGuard
from api.auth.derivation import Digest
from api.auth.expiring import ExpiringCache
from api.auth.identity import Account, Identity, acting_account, find_account
from api.auth.loopback import is_local
from api.auth.principal import ALL_SCOPES, Principal, PrincipalKind, Role
from api.auth.sessions import Sessions
from api.clock import Clock
from api.deprecations import LEGACY_API_KEY, mark
from api.errors import ApiError, ErrorCode
from api.limits.sql import insert
from api.store.database import Database
from api.store.schema import accounts

CACHE_S: Final = 3.0
LOCAL_ACCOUNT: Final = "acc_local"
_CACHED = 20_000


class Authenticator:
    """
    Args:
        local_tier: of the account that development gives to requests of this machine that bring no credential; None:
            every request needs one.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        *,
        secret: str,
        tokens: AccessTokens,
        sessions: Sessions,
        keys: ApiKeys,
        csrf: CsrfGuard,
        local_tier: str | None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._tokens = tokens
        self._sessions = sessions
        self._keys = keys
        self._csrf = csrf
        self._local_tier = local_tier
        self._known: ExpiringCache[Identity] = ExpiringCache(clock, CACHE_S, _CACHED)
        self._names = Digest(secret, "identity-cache")  # credentials are not kept in memory as they are

    async def identify(self, connection: HTTPConnection) -> Identity:
        """
        Raises:
            ApiError: no credential, one that is not valid (any more), an account that may not act, or a browser's
                request that another site's page sent.
        """
        credential = read_credential(connection, cookie_name(connection, development=self._local_tier is not None))
        if credential is None:
            return await self._anonymous(connection)
        identity = await self._looked_up(credential)
        if identity.expires_at is not None and identity.expires_at <= self._clock():
            raise refused(ErrorCode.CREDENTIALS_EXPIRED, ErrorCode.CREDENTIALS_EXPIRED.meaning)
        if credential.kind == "cookie":
            assert identity.session_id is not None, "a cookie is a session"
            self._csrf.check(connection, identity.session_id)
        if credential.kind == "legacy_key":
            mark(connection, LEGACY_API_KEY)
        return identity

    def remembered(self, connection: HTTPConnection) -> Principal | None:
        """Whose credential this is, if it was accepted a moment ago; nobody is asked, and nothing is decided by it."""
        try:
            credential = read_credential(connection, cookie_name(connection, development=self._local_tier is not None))
            name = self._name_of(credential, connection)
        except ApiError:
            return None
        identity = None if name is None else self._known.get(name)
        if identity is None or (identity.expires_at is not None and identity.expires_at <= self._clock()):
            return None
        return identity.principal

    def _name_of(self, credential: Credential | None, connection: HTTPConnection) -> str | None:
        """Under which name the identity would be remembered."""
        if credential is None:
            return LOCAL_ACCOUNT if self._local_tier is not None and is_local(connection) else None
        if credential.kind == "token":
            return _token_name(self._tokens.read(credential.value))
        return self._secret_name(credential)

    def _secret_name(self, credential: Credential) -> str:
        return f"{credential.kind} {self._names(credential.value)}"

    def forget(self) -> None:
        """Something was revoked or changed: look everything up again."""
        self._known.clear()

    async def ensure_local(self) -> Account:
        """The account of this machine, made on demand, and made anew after it was erased."""
        assert self._local_tier is not None, "only in development"
        async with self._db.read() as conn:
            found = await find_account(conn, LOCAL_ACCOUNT)
        if found is not None and (found.status, found.tier) == ("active", self._local_tier):
            return found
        values = {
            "name": "Local development",
            "role": Role.ADMIN.value,
            "tier": self._local_tier,
            "status": "active",
            "erased_at": None,
        }
        async with self._db.begin() as conn:
            new = insert(conn, accounts).values(id=LOCAL_ACCOUNT, created_at=self._clock(), **values)
            await conn.execute(new.on_conflict_do_update(index_elements=["id"], set_=values))
            return await acting_account(conn, LOCAL_ACCOUNT)

    async def _looked_up(self, credential: Credential) -> Identity:
        if credential.kind == "token":
            # Signature and expiry are checked every time; remembered is only that session and account still live.
            claims = self._tokens.read(credential.value)
            return await self._remembered(_token_name(claims), lambda: self._by_token(claims))
        find = self._by_cookie if credential.kind == "cookie" else self._by_key
        return await self._remembered(self._secret_name(credential), lambda: find(credential))

    async def _remembered(self, name: str, find: Callable[[], Awaitable[Identity]]) -> Identity:
        identity = self._known.get(name)
        if identity is None:
            identity = await find()
            self._known.put(name, identity)
        return identity

    async def _by_token(self, claims: AccessClaims) -> Identity:
        async with self._db.read() as conn:
            if not await sessions.is_live(conn, claims.session_id, claims.account_id):
                raise refused(ErrorCode.CREDENTIALS_REVOKED, "the session of this token has ended: log in again")
            account = await acting_account(conn, claims.account_id)
        return Identity(_session_principal(account, "token"), session_id=claims.session_id)

    async def _by_cookie(self, credential: Credential) -> Identity:
        async with self._db.read() as conn:
            found = await self._sessions.by_cookie(conn, credential.value)
            if found is None:
                raise refused(ErrorCode.INVALID_CREDENTIALS, "this browser's session has ended: log in again")
            account = await acting_account(conn, found.account_id)
        if found.outdated:
            await self._sessions.renew(credential.value)
        return Identity(_session_principal(account, "cookie"), found.expires_at, found.id)

    async def _by_key(self, credential: Credential) -> Identity:
        if credential.kind == "api_key":
            key_format.refuse_mistyped(credential.value)
        async with self._db.read() as conn:
            found = await self._keys.find(conn, credential.value)
            if found is None:
                raise refused(ErrorCode.INVALID_CREDENTIALS, "no such API key or token is known here")
            key = found.key
            if key.revoked_at is not None:
                raise refused(ErrorCode.CREDENTIALS_REVOKED, "this API key was revoked: use another one")
            account = await acting_account(conn, key.account_id)
        if key.status(self._clock()) == "active":
            await self._keys.touch(found)
        principal = Principal(
            account_id=account.id,
            role=account.role,
            tier=account.tier,
            scopes=key.scopes,
            kind="api_key",
            api_key_id=key.id,
            test_mode=key.mode == "test",
        )
        return Identity(principal, key.expires_at)

    async def _anonymous(self, connection: HTTPConnection) -> Identity:
        if self._local_tier is None:
            raise refused(ErrorCode.UNAUTHENTICATED, ErrorCode.UNAUTHENTICATED.meaning)
        if not is_local(connection):
            raise refused(
                ErrorCode.UNAUTHENTICATED,
                "no credential came with the request, and it did not come from this machine itself: send an access "
                "token or an API key in the Authorization header",
            )
        self._csrf.check_site(connection)
        return await self._remembered(LOCAL_ACCOUNT, self._local)

    async def _local(self) -> Identity:
        return Identity(_session_principal(await self.ensure_local(), "local"))


def _token_name(claims: AccessClaims) -> str:
    return f"token {claims.session_id} {claims.account_id}"


def _session_principal(account: Account, kind: PrincipalKind) -> Principal:
    return Principal(account.id, account.role, account.tier, ALL_SCOPES, kind)
