"""``/api/v1/webhooks``: where events go, what became of them, and sending them again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from api.auth.policy import require
from api.auth.principal import Principal, Scope
from api.errors import ErrorCode
from api.limits.idempotency import HEADER, REPLAYED, validate_key
from api.schemas.errors import error_responses
from api.schemas.webhooks import (
    AttemptList,
    CreateWebhook,
    DeliveryDetails,
    DeliveryList,
    DeliveryState,
    GenerationEvent,
    SigningSecret,
    UpdateWebhook,
    Webhook,
    WebhookList,
    WebhookWithSecret,
)
from api.services import Provided
from api.webhooks.events import EventType
from api.webhooks.log import Filters

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

Reader = Annotated[Principal, Depends(require(Scope.WEBHOOKS_READ))]
Writer = Annotated[Principal, Depends(require(Scope.WEBHOOKS_WRITE))]
_Id = Annotated[str | None, Query(max_length=40, pattern="^[a-z]{3}_[0-9a-f]{24}$")]

_ONE = error_responses(ErrorCode.WEBHOOK_NOT_FOUND)


@router.post(
    "",
    status_code=201,
    summary="Register a webhook",
    responses=error_responses(ErrorCode.WEBHOOK_URL_REFUSED, ErrorCode.WEBHOOK_CONFLICT, ErrorCode.LIMIT_REACHED),
)
async def create(
    body: CreateWebhook,
    response: Response,
    services: Provided,
    principal: Writer,
    idempotency_key: Annotated[str | None, Header(alias=HEADER)] = None,
) -> WebhookWithSecret:
    """The answer holds the secret, which is not shown again: keep it, and verify every delivery with it.

    Deliveries follow Standard Webhooks 1.0.0. One counts as delivered when the answer is 2xx within 15 seconds; it is
    tried up to ten times over about 75 hours, with the same `webhook-id`. Redirects are not followed. An answer 410, or
    five days of nothing but failures, switches the webhook off.
    """
    created, replayed = await services.webhooks.endpoints.create(
        principal.account_id, body.url, body.events, body.description, validate_key(idempotency_key)
    )
    response.headers.update({"Location": f"/api/v1/webhooks/{created['id']}", "Cache-Control": "no-store"})
    response.headers.update(REPLAYED if replayed else {})
    return WebhookWithSecret.model_validate(created)


@router.get("", summary="List the webhooks")
async def list_webhooks(services: Provided, principal: Reader) -> WebhookList:
    """Every webhook of the account, the oldest first; secrets are not shown."""
    return WebhookList.model_validate({"data": await services.webhooks.endpoints.list(principal.account_id)})


# Named addresses stand before {webhook_id}, which would take them for ids.
@router.get("/signing-secret", summary="Show the account's signing secret")
async def signing_secret(response: Response, services: Provided, principal: Writer) -> SigningSecret:
    """What signs deliveries to the `webhook_url` of single generations. Made when first asked for."""
    response.headers["Cache-Control"] = "no-store"
    return SigningSecret.model_validate(await services.webhooks.endpoints.signing_secret(principal.account_id))


@router.post("/signing-secret/rotate", summary="Replace the account's signing secret")
async def rotate_signing_secret(response: Response, services: Provided, principal: Writer) -> SigningSecret:
    """For 24 hours deliveries carry a signature by each of the two secrets."""
    response.headers["Cache-Control"] = "no-store"
    rotated = await services.webhooks.endpoints.signing_secret(principal.account_id, rotate=True)
    return SigningSecret.model_validate(rotated)


@router.get("/deliveries", summary="List deliveries")
async def list_deliveries(
    services: Provided,
    principal: Reader,
    webhook_id: _Id = None,
    event_id: _Id = None,
    event_type: Annotated[str | None, Query(max_length=60, pattern="^[a-z.]+$")] = None,
    state: DeliveryState | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> DeliveryList:
    """The newest first. Finished deliveries are kept for 30 days unless this server is set up otherwise."""
    filters = Filters(webhook_id, event_id, event_type, state)
    data, following = await services.webhooks.log.page(principal.account_id, filters, limit, cursor)
    return DeliveryList.model_validate({"data": data, "next_cursor": following})


@router.get("/deliveries/{delivery_id}", summary="Show a delivery", responses=_ONE)
async def get_delivery(delivery_id: str, services: Provided, principal: Reader) -> DeliveryDetails:
    """With its body and all attempts."""
    return DeliveryDetails.model_validate(await services.webhooks.log.get(principal.account_id, delivery_id))


@router.get("/deliveries/{delivery_id}/attempts", summary="List a delivery's attempts", responses=_ONE)
async def list_attempts(delivery_id: str, services: Provided, principal: Reader) -> AttemptList:
    """The oldest first."""
    data = await services.webhooks.log.attempts(principal.account_id, delivery_id)
    return AttemptList.model_validate({"data": data})


@router.post(
    "/deliveries/{delivery_id}/replay",
    status_code=202,
    summary="Send a delivery again",
    responses=error_responses(ErrorCode.WEBHOOK_NOT_FOUND, ErrorCode.WEBHOOK_CONFLICT),
)
async def replay(delivery_id: str, services: Provided, principal: Writer) -> DeliveryDetails:
    """Now, with the same `webhook-id` and body, whatever came of it before."""
    await services.webhooks.log.replay(principal.account_id, delivery_id)
    return DeliveryDetails.model_validate(await services.webhooks.log.get(principal.account_id, delivery_id))


@router.get("/{webhook_id}", summary="Show a webhook", responses=_ONE)
async def get(webhook_id: str, services: Provided, principal: Reader) -> Webhook:
    """Without its secret."""
    return Webhook.model_validate(await services.webhooks.endpoints.get(principal.account_id, webhook_id))


@router.patch(
    "/{webhook_id}",
    summary="Change a webhook",
    responses=error_responses(ErrorCode.WEBHOOK_URL_REFUSED, ErrorCode.WEBHOOK_NOT_FOUND, ErrorCode.WEBHOOK_CONFLICT),
)
async def update(webhook_id: str, body: UpdateWebhook, services: Provided, principal: Writer) -> Webhook:
    """What is left out stays as it is. Pending deliveries follow a new url."""
    changes: dict[str, Any] = {name: value for name, value in body.model_dump().items() if value is not None}
    return Webhook.model_validate(await services.webhooks.endpoints.update(principal.account_id, webhook_id, changes))


@router.delete("/{webhook_id}", status_code=204, summary="Delete a webhook", responses=_ONE)
async def delete(webhook_id: str, services: Provided, principal: Writer) -> None:
    """With its deliveries and its secret."""
    await services.webhooks.endpoints.delete(principal.account_id, webhook_id)


@router.post("/{webhook_id}/rotate", summary="Replace a webhook's secret", responses=_ONE)
async def rotate(webhook_id: str, response: Response, services: Provided, principal: Writer) -> WebhookWithSecret:
    """The answer holds the new secret, this once. For 24 hours deliveries carry a signature by each of the two; a
    second rotation within them ends the older one at once."""
    response.headers["Cache-Control"] = "no-store"
    rotated = await services.webhooks.endpoints.rotate(principal.account_id, webhook_id)
    return WebhookWithSecret.model_validate(rotated)


@router.post(
    "/{webhook_id}/test",
    summary="Send a test event",
    responses=error_responses(ErrorCode.WEBHOOK_NOT_FOUND, ErrorCode.WEBHOOK_CONFLICT),
)
async def test(webhook_id: str, services: Provided, principal: Writer) -> DeliveryDetails:
    """Sends a `webhook.test` event now, once, and answers with what came of it. Works while the webhook is switched
    off, and has no say in whether it is."""
    return DeliveryDetails.model_validate(await services.webhooks.log.test(principal.account_id, webhook_id))


async def _told(
    body: GenerationEvent,
    webhook_id: Annotated[str, Header(description="Names the event: the same at every attempt and replay")],
    webhook_timestamp: Annotated[int, Header(description="Of this attempt, in seconds since 1970; refuse old ones")],
    webhook_signature: Annotated[
        str, Header(description="`v1,` and base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`; two during a rotation")
    ],
) -> None:
    """Sent by this server. Answer with any 2xx within 15 seconds, do the work afterwards, and do it once per
    `webhook-id`: a delivery may come twice."""


# For the OpenAPI document only: what this server sends, `FastAPI(webhooks=sent)`.
sent = APIRouter(tags=["webhooks"])
for _event in EventType:
    sent.add_api_route(
        _event.value,
        _told,
        methods=["POST"],
        status_code=204,
        summary=f"A generation has {_event.value.rpartition('.')[2]}",
        operation_id=f"told_{_event.value.replace('.', '_')}",
    )
