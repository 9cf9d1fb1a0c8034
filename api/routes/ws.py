"""``/api/v1/ws``: events of many generations over one WebSocket, opened with a ticket."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, WebSocket

from api.auth.challenge import refused
from api.auth.policy import public, require
from api.auth.principal import Principal, Scope
from api.errors import ErrorCode
from api.routes.events import renderer
from api.schemas.errors import error_responses
from api.schemas.sockets import Ticket
from api.services import Provided, Services
from api.streams.access import Access
from api.streams.socket import CLOSE_CODES, MAX_MESSAGE_BYTES, MAX_SUBSCRIPTIONS, Session
from api.streams.tickets import TICKET_TTL_S, Holder, Tickets

router = APIRouter(prefix="/api/v1", tags=["streams"])

_PATH = "/api/v1/ws"
_CODES = "; ".join(f"{code}: {meaning}" for code, meaning in CLOSE_CODES.items())
_DESCRIPTION = f"""Connect to `url` within {TICKET_TTL_S} seconds; a ticket opens one connection.

Messages are JSON objects. Send `{{"action": "subscribe", "generation_id": "gen_…"}}`, with `"audio": true` for the
audio and `"last_event_id"` to go on where you were; `{{"action": "unsubscribe", "generation_id": "gen_…"}}`;
`{{"action": "ping"}}`. What comes is `{{"event", "generation_id", "id", "data"}}` with the events of
`GET /api/v1/generate/{{id}}/events`, and `error` with the error envelope, `unsubscribed`, `ping`, `pong`.

At most {MAX_SUBSCRIPTIONS} subscriptions at once and {MAX_MESSAGE_BYTES} bytes a message. Each `subscribe` counts as a
request: an `error` with `rate_limited` says in `retry_after` how many seconds to wait. Close codes: {_CODES}."""


@router.post(
    "/ws/tickets",
    status_code=201,
    summary="Get a ticket for a WebSocket",
    description=_DESCRIPTION,
    responses=error_responses(
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.PERMISSION_DENIED,
        ErrorCode.RATE_LIMITED,
        ErrorCode.NOT_READY,
        ErrorCode.INTERNAL_ERROR,
    ),
)
async def ticket(
    request: Request,
    response: Response,
    services: Provided,
    principal: Annotated[Principal, Depends(require(Scope.GENERATIONS_READ))],
) -> Ticket:
    """A browser can send no header with a WebSocket, and no key belongs into a URL."""
    issued = await Tickets(services.cache).issue(Holder(principal, request.state.session_id))
    response.headers["Cache-Control"] = "no-store"
    return Ticket(ticket=issued, expires_in=TICKET_TTL_S, url=f"{_PATH}?ticket={issued}")


@router.websocket("/ws", dependencies=[Depends(public)])
async def connect(websocket: WebSocket, ticket: str = "") -> None:
    """Whoever has a ticket is let in; without one the handshake is refused with 401 and the error envelope."""
    services: Services = websocket.app.state.services
    holder = await Tickets(services.cache).redeem(ticket)
    if holder is None:
        message = f"no such ticket, or it was used or expired: get one with POST {_PATH}/tickets and use it at once"
        raise refused(ErrorCode.INVALID_CREDENTIALS, message)
    websocket.state.principal = holder.principal
    services.access.check_room(holder.principal.account_id, services.limits.tier(holder.principal.tier).listeners)
    await websocket.accept()
    session = Session(
        websocket,
        holder.principal,
        services.generations,
        services.feed,
        renderer(services.settings.public_url),
        access=services.access.hold(Access.of(holder.principal, holder.session_id)),
        rates=services.limits.rates,
        request_id=websocket.state.request_id,
        log=services.log,
        patience_s=services.settings.slow_listener_timeout_s,
    )
    with services.telemetry.listeners("websocket").track_inprogress():
        await session.run()
