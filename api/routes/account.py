"""``/api/v1/user``, ``/api/v1/account`` and ``/api/v1/tiers``: what an account is, has, may do and leaves behind."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from api.auth.api_keys import Once
from api.auth.csrf import CSRF_HEADER
from api.auth.policy import public, require
from api.auth.principal import Principal, Scope
from api.errors import ApiError, ErrorCode
from api.limits import idempotency
from api.schemas.accounts import Profile, Tier, TierList, Usage, UsageWindow
from api.schemas.api_keys import ApiKey, ApiKeyList, ApiKeyWithSecret, CreateApiKey, RotateApiKey, utc
from api.schemas.errors import error_responses
from api.services import Provided

router = APIRouter(prefix="/api/v1", tags=["accounts"])

Reader = Annotated[Principal, Depends(require(Scope.ACCOUNT_READ))]
Writer = Annotated[Principal, Depends(require(Scope.ACCOUNT_WRITE))]
IdempotencyKey = Annotated[
    str | None, Header(alias=idempotency.HEADER, description="Sent again within a day, the same key is answered")
]

_ASKING = (
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.INVALID_CREDENTIALS,
    ErrorCode.CREDENTIALS_EXPIRED,
    ErrorCode.CREDENTIALS_REVOKED,
    ErrorCode.CREDENTIAL_IN_URL,
    ErrorCode.PERMISSION_DENIED,
    ErrorCode.ACCOUNT_SUSPENDED,
    ErrorCode.RATE_LIMITED,
    ErrorCode.INTERNAL_ERROR,
)
_CHANGING = (ErrorCode.CSRF_FAILED, *_ASKING)
_MAKING = (
    ErrorCode.INVALID_PARAMETER,
    ErrorCode.MALFORMED_BODY,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.LIMIT_REACHED,
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    ErrorCode.IDEMPOTENCY_IN_FLIGHT,
    *_CHANGING,
)
_EXPORT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One JSON document, sent while it is read: a member for each kind of thing the account owns",
        "content": {"application/json": {"schema": {"type": "object"}}},
        "headers": {"Content-Disposition": {"schema": {"type": "string"}, "description": "A name for the file"}},
    }
}


@router.get("/user/profile", summary="Who am I?", responses=error_responses(*_ASKING))
async def profile(request: Request, response: Response, services: Provided, principal: Reader) -> Profile:
    """The account behind this request. To a session by cookie the answer brings its token in X-CSRF-Token."""
    account = await services.accounts.profile(principal)
    if principal.kind == "cookie":
        response.headers[CSRF_HEADER] = services.accounts.csrf.token(request.state.session_id)
    response.headers["Cache-Control"] = "no-store"
    return Profile.of(account, principal)


@router.get("/user/usage", summary="What have I used?", responses=error_responses(*_ASKING))
async def usage(services: Provided, principal: Reader) -> Usage:
    """What was used in the current hour, day and month, beside the tier's limits."""
    windows = await services.accounts.usage(principal)
    return Usage(
        tier=Tier.of(services.limits.tiers[principal.tier]), windows=[UsageWindow.of(window) for window in windows]
    )


@router.get(
    "/tiers",
    summary="List the tiers",
    responses=error_responses(ErrorCode.INTERNAL_ERROR),
    dependencies=[Depends(public)],
)
async def tiers(services: Provided) -> TierList:
    """What accounts of each tier may do."""
    return TierList(data=[Tier.of(tier) for tier in services.limits.tiers.tiers.values()])


# --------------------------------------------------------------------------------------------- API keys
@router.get("/user/api-keys", summary="List the API keys", responses=error_responses(*_ASKING))
async def list_keys(services: Provided, principal: Reader) -> ApiKeyList:
    """Those that work first, then the newest; at most 200. The keys themselves are not shown."""
    now = services.clock()
    return ApiKeyList(
        data=[ApiKey.of(key, now) for key in await services.accounts.keys.of_account(principal.account_id)]
    )


@router.post("/user/api-keys", status_code=201, summary="Make an API key", responses=error_responses(*_MAKING))
async def create_key(
    body: CreateApiKey,
    response: Response,
    services: Provided,
    principal: Writer,
    idempotency_key: IdempotencyKey = None,
) -> ApiKeyWithSecret:
    """The answer holds the key, which is not shown again. No key can be made that may do more than the credential
    that asks for it."""
    once = _once(idempotency_key, "/api/v1/user/api-keys", body.model_dump(mode="json"))
    keys, expires_at = services.accounts.permitted_keys, utc(body.expires_at)
    made = await keys.create(principal, body.name, body.mode, body.scopes, expires_at, once)
    response.headers.update({"Location": f"/api/v1/user/api-keys/{made.key.id}", "Cache-Control": "no-store"})
    response.headers.update(idempotency.REPLAYED if made.replayed else {})
    return ApiKeyWithSecret.made(made, services.clock())


@router.delete(
    "/user/api-keys/{key_id}",
    status_code=204,
    summary="Revoke an API key",
    responses=error_responses(ErrorCode.API_KEY_NOT_FOUND, *_CHANGING),
)
async def revoke_key(key_id: str, services: Provided, principal: Writer) -> None:
    """It stops working within three seconds, everywhere, and for good."""
    await services.accounts.permitted_keys.revoke(principal, key_id)


@router.post(
    "/user/api-keys/{key_id}/rotate",
    status_code=201,
    summary="Replace an API key",
    responses=error_responses(ErrorCode.API_KEY_NOT_FOUND, ErrorCode.API_KEY_INACTIVE, *_MAKING),
)
async def rotate_key(
    key_id: str,
    response: Response,
    services: Provided,
    principal: Writer,
    body: Annotated[RotateApiKey | None, Body()] = None,
    idempotency_key: IdempotencyKey = None,
) -> ApiKeyWithSecret:
    """A new key of the same name, mode, scopes and lifetime; the old one works until the overlap ends."""
    wanted = body or RotateApiKey()
    once = _once(idempotency_key, f"/api/v1/user/api-keys/{key_id}/rotate", wanted.model_dump(mode="json"))
    made = await services.accounts.permitted_keys.rotate(principal, key_id, wanted.overlap_s, once)
    response.headers.update({"Location": f"/api/v1/user/api-keys/{made.key.id}", "Cache-Control": "no-store"})
    response.headers.update(idempotency.REPLAYED if made.replayed else {})
    return ApiKeyWithSecret.made(made, services.clock())


# ---------------------------------------------------------------------------------------------- privacy
@router.post(
    "/account/export",
    summary="Download all that the account owns",
    response_class=StreamingResponse,
    responses=_EXPORT | error_responses(*_CHANGING),
)
async def export(services: Provided, principal: Reader) -> StreamingResponse:
    """Everything stored under the account but secrets; audio is named by its address, `audio_url`."""
    headers = {
        "Content-Disposition": f'attachment; filename="tutti-{principal.account_id}.json"',
        "Cache-Control": "no-store",
    }
    return StreamingResponse(services.accounts.export(principal), media_type="application/json", headers=headers)


@router.delete(
    "/account",
    status_code=204,
    summary="Erase the account",
    responses=error_responses(ErrorCode.INVALID_PARAMETER, *_CHANGING),
)
async def erase(
    services: Provided,
    principal: Writer,
    confirm: Annotated[str, Query(max_length=40, description="The account's id, so that nobody does this by mistake")],
) -> None:
    """For good: what is queued or running is cancelled, every credential ends, stored audio becomes unreadable at once
    and is then removed, and so is everything that tells of a person. Counts and times of what was made stay."""
    if confirm != principal.account_id:
        raise ApiError(
            ErrorCode.INVALID_PARAMETER,
            "confirm must be the id of the account that is to be erased, as GET /api/v1/user/profile tells it",
            param="confirm",
        )
    await services.accounts.erase(principal)


def _once(key: str | None, route: str, payload: dict[str, Any]) -> Once | None:
    valid = idempotency.validate_key(key)
    return Once(valid, idempotency.request_hash("POST", route, payload)) if valid is not None else None
