"""Accounts as the routes use them: who is asking, getting in, getting out, and what an account holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import HTTPConnection

from api.auth.access_tokens import AccessTokens
from api.auth.api_keys import ApiKeys
from api.auth.authenticator import Authenticator
from api.auth.challenge import refused
from api.auth.client_address import ClientAddress, parse_networks
from api.auth.credentials import cookie_name
from api.auth.csrf import CsrfGuard
from api.auth.directory import Directory
from api.auth.erasure import Eraser
from api.auth.export import export_account
from api.auth.identity import Account, acting_account
from api.auth.passwords import Passwords
from api.auth.permitted_keys import PermittedKeys
from api.auth.principal import Principal
from api.auth.sessions import Session, Sessions, Transport
from api.clock import Clock
from api.errors import ApiError, ErrorCode
from api.generations.states import Change
from api.limits import Limits, quota
from api.limits.quota import Usage
from api.limits.tiers import Tiers
from api.settings import Settings, SettingsError
from api.store.database import Database


@dataclass(frozen=True, slots=True)
class Grant:
    """What a program gets for getting in.

    Attributes:
        expires_in_s: seconds the access token is valid.
    """

    account_id: str
    access_token: str
    expires_in_s: int
    refresh_token: str
    refresh_expires_at: datetime


class AccountService:
    """
    Args:
        on_change: told of every generation that an erasure has cancelled.

    Attributes:
        directory: the accounts themselves.
        keys: their API keys, unchecked.
        permitted_keys: the same, as far as a principal may.
        address_of: the address of a request's client, for limits.
        csrf: checks and tokens for browsers.
        eraser: ``handle`` is the outbox's handler of ``account.sweep``.
        development: the account of this machine and its token exist.

    Raises:
        SettingsError: a tier that the settings name is not in the tiers file.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        clock: Clock,
        limits: Limits,
        on_change: Callable[[Change], None] = lambda _change: None,
    ) -> None:
        _refuse_unknown_tiers(settings, limits.tiers)
        secrets = settings.secrets.secret_keys
        self.development = settings.environment == "development"
        self._db = db
        self._clock = clock
        self._limits = limits
        self._registration_open = settings.registration_open
        self._tokens = AccessTokens(secrets, settings.access_token_ttl_s, clock)
        self._sessions = Sessions(db, secrets, clock, settings.refresh_token_ttl_s)
        self._passwords = Passwords()
        self.address_of = ClientAddress(parse_networks(settings.trusted_proxies))
        self.keys = ApiKeys(db, secrets, clock)
        self.csrf = CsrfGuard(secrets, settings.public_url)
        self.directory = Directory(db, self._passwords, clock, settings.new_account_tier)
        self.eraser = Eraser(db, clock, on_change)
        self._authenticator = Authenticator(
            db,
            clock,
            secret=secrets[0],
            tokens=self._tokens,
            sessions=self._sessions,
            keys=self.keys,
            csrf=self.csrf,
            local_tier=settings.local_tier if self.development else None,
        )
        self.permitted_keys = PermittedKeys(self.keys, clock, forget=self._authenticator.forget)

    async def close(self) -> None:
        self._passwords.close()

    # ------------------------------------------------------------------------------------- who is asking
    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """The principal of a request, counted against its account's request rate.

        Raises:
            ApiError: 401, 403 (suspended, or another site's page), 400 (a credential in the URL), or rate_limited.
        """
        try:
            identity = await self._authenticator.identify(connection)
        except ApiError as error:
            if error.status_code == ErrorCode.UNAUTHENTICATED.status:
                await self._limits.rates.hit("anonymous", self.address_of(connection))  # guessing has a pace too
            raise
        connection.state.session_id = identity.session_id
        connection.state.rate = await self._limits.rates.check_request(identity.principal)
        return identity.principal

    def remembered(self, connection: HTTPConnection) -> Principal | None:
        """Whose credential this is, if it was accepted a moment ago: without I/O, without a verdict, uncounted."""
        return self._authenticator.remembered(connection)

    # ------------------------------------------------------------------------------------- in and out
    async def register(self, email: str, password: str, name: str, *, address: str) -> Grant:
        """
        Args:
            email: in its normal form, see ``directory.normal_email``.
            address: the client's, for the limit.

        Raises:
            ApiError: rate_limited, email_taken, permission_denied when registration is closed.
        """
        await self._limits.rates.hit("register", address)
        if not self._registration_open:
            raise ApiError(
                ErrorCode.PERMISSION_DENIED,
                "accounts are made by an administrator here: ask whoever runs this server",
            )
        account = await self.directory.create(email, password, name)
        return self.grant(await self._sessions.open(account.id, "token"))

    async def login(self, email: str, password: str, transport: Transport, *, address: str) -> Session:
        """
        Raises:
            ApiError: rate_limited, invalid_credentials, account_suspended. Which of email and password was wrong is
                told neither in words nor by the time it takes.
        """
        await self._limits.rates.hit("login_ip", address)
        await self._limits.rates.hit("login_account", email)
        account = await self.directory.verified(email, password)
        if account is None:
            raise refused(ErrorCode.INVALID_CREDENTIALS, "email or password is wrong")
        if account.status != "active":
            raise ApiError(ErrorCode.ACCOUNT_SUSPENDED)
        return await self._sessions.open(account.id, transport)

    async def refresh(self, token: str, *, address: str) -> Grant:
        """
        Raises:
            ApiError: as ``Sessions.refresh``; wrong ones count as logins do.
        """
        try:
            return self.grant(await self._sessions.refresh(token))
        except ApiError:
            # A session may have ended by it: whoever holds its access token must notice.
            self._authenticator.forget()
            await self._limits.rates.hit("login_ip", address)
            raise

    async def logout(self, connection: HTTPConnection, refresh_token: str | None) -> None:
        """End the session of the refresh token, or else of the access token or cookie that the request brings.

        Raises:
            ApiError: csrf_failed, a credential that is not valid, or one that is no session's.
        """
        if refresh_token is not None:
            await self._sessions.end_by_token(refresh_token)
        else:
            identity = await self._authenticator.identify(connection)
            if identity.session_id is None:
                raise ApiError(
                    ErrorCode.INVALID_PARAMETER,
                    "there is no session to end: send the refresh token, the access token or the session's cookie "
                    "(an API key is ended by DELETE /api/v1/user/api-keys/{id})",
                    param="refresh_token",
                )
            await self._sessions.end_by_id(identity.session_id, identity.principal.account_id)
        self._authenticator.forget()

    async def dev_token(self) -> Grant:
        """A token of this machine's own account, to try what a client with credentials does."""
        account = await self._authenticator.ensure_local()
        return self.grant(await self._sessions.open(account.id, "token"))

    def grant(self, session: Session) -> Grant:
        """An access token for a session, beside its refresh token."""
        return Grant(
            account_id=session.account_id,
            access_token=self._tokens.issue(session.account_id, session.id),
            expires_in_s=self._tokens.ttl_s,
            refresh_token=session.token,
            refresh_expires_at=session.expires_at,
        )

    def cookie_name(self, connection: HTTPConnection) -> str:
        return cookie_name(connection, development=self.development)

    # ------------------------------------------------------------------------------- what an account holds
    async def profile(self, principal: Principal) -> Account:
        async with self._db.read() as conn:
            return await acting_account(conn, principal.account_id)

    async def usage(self, principal: Principal) -> list[Usage]:
        """The account's current windows against its tier's limits."""
        tier = self._limits.tiers[principal.tier]
        async with self._db.read() as conn:
            return await quota.usage(conn, principal.account_id, tier, self._clock())

    async def export(self, principal: Principal) -> AsyncIterator[bytes]:
        """The account's export, piece by piece; see ``api.auth.export``."""
        async for piece in export_account(self._db, principal.account_id, self._clock()):
            yield piece

    async def erase(self, principal: Principal) -> None:
        """Erase the account of whoever asks, for good; see ``api.auth.erasure``."""
        await self.eraser.erase(principal.account_id)
        self._authenticator.forget()


def _refuse_unknown_tiers(settings: Settings, tiers: Tiers) -> None:
    for name in ("new_account_tier", "local_tier"):
        tier = getattr(settings, name)
        if tier not in tiers:
            raise SettingsError(f"TUTTI_{name.upper()} is {tier!r}, but the tiers file has: {', '.join(tiers.names)}")
