"""``/api/v1/auth``: getting in, staying in, getting out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, Response

from api.auth.loopback import is_local
from api.auth.policy import public
from api.auth.service import Grant
from api.auth.sessions import Session
from api.errors import ApiError, ErrorCode
from api.schemas.errors import error_responses
from api.schemas.logins import CookieGrant, Login, Logout, Refresh, Register, TokenGrant
from api.services import Provided, Services

_PREFIX = "/api/v1/auth"
_BODY = (ErrorCode.INVALID_PARAMETER, ErrorCode.MALFORMED_BODY, ErrorCode.PAYLOAD_TOO_LARGE)
_ALWAYS = (ErrorCode.RATE_LIMITED, ErrorCode.INTERNAL_ERROR)

router = APIRouter(prefix=_PREFIX, tags=["accounts"], dependencies=[Depends(public)])


@router.post(
    "/register",
    status_code=201,
    summary="Make an account",
    responses=error_responses(
        *_BODY, ErrorCode.EMAIL_TAKEN, ErrorCode.PERMISSION_DENIED, ErrorCode.SYSTEM_OVERLOADED, *_ALWAYS
    ),
)
async def register(body: Register, request: Request, response: Response, services: Provided) -> TokenGrant:
    """A new account of the smallest tier, and tokens to begin with at once."""
    grant = await services.accounts.register(
        body.email, body.password.get_secret_value(), body.name, address=services.accounts.address_of(request)
    )
    response.headers["Location"] = "/api/v1/user/profile"
    return _granted(grant, response)


@router.post(
    "/login",
    summary="Log in",
    responses=error_responses(
        *_BODY,
        ErrorCode.INVALID_CREDENTIALS,
        ErrorCode.ACCOUNT_SUSPENDED,
        ErrorCode.CSRF_FAILED,
        ErrorCode.SYSTEM_OVERLOADED,
        *_ALWAYS,
    ),
)
async def login(body: Login, request: Request, response: Response, services: Provided) -> TokenGrant | CookieGrant:
    """Tokens for a program or, with `"cookie": true`, a session for a browser.

    Attempts are limited by address and by account. Whether an account exists cannot be told from the answer, nor from
    the time it takes.
    """
    if body.cookie:
        # Another site's page must not log its visitor in to an account of its own choice.
        services.accounts.csrf.check_site(request)
    session = await services.accounts.login(
        body.email,
        body.password.get_secret_value(),
        "cookie" if body.cookie else "token",
        address=services.accounts.address_of(request),
    )
    if body.cookie:
        return _cookie(session, request, response, services)
    return _granted(services.accounts.grant(session), response)


@router.post(
    "/refresh",
    summary="Get a new access token",
    responses=error_responses(
        *_BODY,
        ErrorCode.INVALID_CREDENTIALS,
        ErrorCode.CREDENTIALS_EXPIRED,
        ErrorCode.CREDENTIALS_REVOKED,
        ErrorCode.ACCOUNT_SUSPENDED,
        *_ALWAYS,
    ),
)
async def refresh(body: Refresh, request: Request, response: Response, services: Provided) -> TokenGrant:
    """Use up a refresh token; the answer holds its successor.

    A refresh token works once. Using it again ends the whole session, since then two parties hold it; only within ten
    seconds, and while the successor is unused, the same successor is given again, in case the answer got lost.
    """
    address = services.accounts.address_of(request)
    grant = await services.accounts.refresh(body.refresh_token.get_secret_value(), address=address)
    return _granted(grant, response)


@router.post(
    "/logout",
    status_code=204,
    summary="End a session",
    responses=error_responses(
        *_BODY,
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.INVALID_CREDENTIALS,
        ErrorCode.CREDENTIALS_EXPIRED,
        ErrorCode.CREDENTIALS_REVOKED,
        ErrorCode.ACCOUNT_SUSPENDED,
        ErrorCode.CREDENTIAL_IN_URL,
        ErrorCode.CSRF_FAILED,
        *_ALWAYS,
    ),
)
async def logout(
    request: Request, response: Response, services: Provided, body: Annotated[Logout | None, Body()] = None
) -> None:
    """The session's refresh token and cookie end at once, its access tokens within three seconds."""
    token = body.refresh_token.get_secret_value() if body is not None and body.refresh_token is not None else None
    await services.accounts.logout(request, token)
    name = services.accounts.cookie_name(request)
    if name in request.cookies:
        response.delete_cookie(name, path="/", secure=name.startswith("__Host-"), httponly=True, samesite="lax")


def make_development_router() -> APIRouter:
    """What exists in development only; production's application does not have it."""
    development = APIRouter(prefix=_PREFIX, tags=["accounts"], dependencies=[Depends(public)])

    @development.post(
        "/dev-token",
        summary="Get tokens for this machine's account",
        responses=error_responses(ErrorCode.PERMISSION_DENIED, ErrorCode.CSRF_FAILED, ErrorCode.INTERNAL_ERROR),
    )
    async def dev_token(request: Request, response: Response, services: Provided) -> TokenGrant:
        """Development only, and only for requests from this very machine: what a login would give."""
        if not is_local(request):
            raise ApiError(
                ErrorCode.PERMISSION_DENIED, "development tokens are given to this machine only: register and log in"
            )
        services.accounts.csrf.check_site(request)
        return _granted(await services.accounts.dev_token(), response)

    return development


def _granted(grant: Grant, response: Response) -> TokenGrant:
    response.headers["Cache-Control"] = "no-store"
    return TokenGrant.of(grant)


def _cookie(session: Session, request: Request, response: Response, services: Services) -> CookieGrant:
    name = services.accounts.cookie_name(request)
    response.set_cookie(
        name,
        session.token,
        # Relative: a browser's clock may be wrong.
        max_age=int((session.expires_at - services.clock()).total_seconds()),
        path="/",
        secure=name.startswith("__Host-"),
        httponly=True,
        samesite="lax",
    )
    response.headers["Cache-Control"] = "no-store"
    return CookieGrant(
        account_id=session.account_id,
        csrf_token=services.accounts.csrf.token(session.id),
        expires_at=session.expires_at,
    )
