"""One WebSocket: subscriptions of one account, each told as over SSE, over one connection.

Two tasks serve it, and the first to end ends both: one reads what the client wants, one sends what there is to tell.
Subscriptions hand their events to the sender through a queue of a few places, so a client that does not read holds up
its own subscriptions and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any, Final

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from structlog.typing import FilteringBoundLogger

from api.auth.policy import Policy, refuse_unless
from api.auth.principal import Principal, Scope
from api.errors import ApiError, ErrorCode, envelope, from_tutti
from api.generations.service import GenerationService
from api.generations.view import GenerationView
from api.handlers import from_validation
from api.limits.rates import Rates
from api.schemas.sockets import Ping, Subscribe, Unsubscribe, actions
from api.streams.access import Holding, refusal
from api.streams.events import PING_S, Event, Narrator, Render, ResumePoint
from api.streams.hub import Feed
from api.tasks import stop
from models.errors import TuttiError

MAX_SUBSCRIPTIONS: Final = 32
MAX_MESSAGE_BYTES: Final = 4096
_QUEUE_PLACES: Final = 4
_CLOSE_TIMEOUT_S: Final = 2.0

CLOSE_NORMAL: Final = 1000
CLOSE_GOING_AWAY: Final = 1001
CLOSE_UNSUPPORTED: Final = 1003
CLOSE_TOO_BIG: Final = 1009
CLOSE_INTERNAL: Final = 1011
CLOSE_UNAUTHORIZED: Final = 4401  # 4000 and the status of the error that is told before
CLOSE_FORBIDDEN: Final = 4403
CLOSE_TOO_SLOW: Final = 4408
CLOSE_CODES = {
    CLOSE_NORMAL: "the client closed",
    CLOSE_GOING_AWAY: "the server is going away: connect again with a new ticket and resume with the last ids",
    CLOSE_UNSUPPORTED: "messages are text, in JSON",
    CLOSE_TOO_BIG: f"a message had more than {MAX_MESSAGE_BYTES} bytes",
    CLOSE_INTERNAL: "a bug in the server, which has logged it",
    CLOSE_UNAUTHORIZED: "the credential was revoked or has expired, as the last error says: get a ticket with another",
    CLOSE_FORBIDDEN: "the account was suspended, as the last error says",
    CLOSE_TOO_SLOW: "the client read nothing for too long",
}

_AUDIO_TOO = Policy(public=False, scopes=frozenset({Scope.AUDIO_READ}))


class Session:
    """An accepted connection.

    Args:
        principal: whose ticket it was.
        access: says when the principal may listen no more.
        rates: subscriptions count as requests do.
        request_id: of the handshake, for the error envelopes.
        patience_s: how long the client may read nothing.

    Attributes:
        ping_s: how long it may be quiet.
    """

    ping_s = PING_S

    def __init__(
        self,
        websocket: WebSocket,
        principal: Principal,
        generations: GenerationService,
        feed: Feed,
        render: Render,
        *,
        access: Holding,
        rates: Rates,
        request_id: str,
        log: FilteringBoundLogger,
        patience_s: float,
    ) -> None:
        self._websocket = websocket
        self._principal = principal
        self._generations, self._feed, self._render = generations, feed, render
        self._access, self._rates = access, rates
        self._request_id = request_id
        self._log = log.bind(request_id=request_id, account_id=principal.account_id)
        self._patience_s = patience_s
        self._outgoing: asyncio.Queue[str] = asyncio.Queue(_QUEUE_PLACES)
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._broken: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Until either side has had enough. Afterwards nothing of it is left."""
        tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._pump())]
        code, refused = CLOSE_GOING_AWAY, None
        try:
            with self._access as lost:
                ends: list[asyncio.Future[Any]] = [*tasks, self._broken, lost]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                refused = refusal(lost)
                ended = next(end for end in ends if end.done())
                code = 4000 + refused.status_code if refused is not None else self._why(ended)
        finally:
            await stop(*tasks, *self._subscriptions.values())
            if not self._broken.cancel():
                self._broken.exception()  # seen
            await self._close(code, refused)

    def _why(self, ended: asyncio.Future[int]) -> int:
        """The code to close with; a bug is logged."""
        error = ended.exception()
        if error is None:
            return ended.result()
        self._log.error("websocket_broke", exc_info=error)
        return CLOSE_INTERNAL

    async def _close(self, code: int, refused: ApiError | None) -> None:
        if self._websocket.client_state == WebSocketState.DISCONNECTED:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                if refused is not None:
                    await self._websocket.send_text(self._as_error(refused, None))
                await self._websocket.close(code, CLOSE_CODES[code])
        except (TimeoutError, RuntimeError, OSError, WebSocketDisconnect):
            return  # it is gone, one way or another

    # -------------------------------------------------------------------------------------- what it says
    async def _watch(self) -> int:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return CLOSE_NORMAL
            text = message.get("text")
            if text is None:
                return CLOSE_UNSUPPORTED
            if len(text.encode()) > MAX_MESSAGE_BYTES:
                return CLOSE_TOO_BIG
            await self._act(text)

    async def _act(self, text: str) -> None:
        generation_id: str | None = None
        try:
            action = _parse(text)
            generation_id = getattr(action, "generation_id", None)
            match action:
                case Subscribe():
                    await self._rates.check_request(self._principal)
                    await self._subscribe(action)
                case Unsubscribe():
                    await self._unsubscribe(action)
                case Ping():
                    await self._outgoing.put('{"event":"pong"}')
        except (ApiError, TuttiError) as error:
            await self._refuse(error, generation_id)

    async def _subscribe(self, wish: Subscribe) -> None:
        if wish.audio:
            refuse_unless(self._principal, _AUDIO_TOO)
        if wish.generation_id in self._subscriptions:
            message = "this connection is subscribed to it already: unsubscribe first, or go on listening"
            raise ApiError(ErrorCode.INVALID_PARAMETER, message, param="generation_id")
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            message = f"one connection holds {MAX_SUBSCRIPTIONS} subscriptions: unsubscribe from one, or open another"
            raise ApiError(ErrorCode.LIMIT_REACHED, message)
        view = await self._generations.get(self._principal, wish.generation_id)
        resume = ResumePoint.parse(wish.last_event_id, view.num_tracks)
        telling = asyncio.create_task(self._tell(view, wish, resume), name=f"subscription {view.id}")
        self._subscriptions[view.id] = telling
        telling.add_done_callback(self._subscription_ended)

    async def _unsubscribe(self, wish: Unsubscribe) -> None:
        telling = self._subscriptions.pop(wish.generation_id, None)
        if telling is None:
            message = "this connection is not subscribed to it: there is nothing to do"
            raise ApiError(ErrorCode.INVALID_PARAMETER, message, param="generation_id")
        await stop(telling)
        await self._outgoing.put(f'{{"event":"unsubscribed","generation_id":"{wish.generation_id}"}}')

    # ------------------------------------------------------------------------------------ what it is told
    async def _tell(self, view: GenerationView, wish: Subscribe, resume: ResumePoint) -> None:
        try:
            async with self._feed.watch(view) as watch:
                narrator = Narrator(watch, resume, self._render, audio=wish.audio)
                async with aclosing(narrator.events()) as events:
                    async for event in events:
                        if event is not None:  # the connection has pings of its own
                            await self._outgoing.put(_as_text(view.id, event))
        except (ApiError, TuttiError) as error:
            await self._refuse(error, view.id)

    def _subscription_ended(self, telling: asyncio.Task[None]) -> None:
        for generation_id, task in list(self._subscriptions.items()):
            if task is telling:
                del self._subscriptions[generation_id]
        error = None if telling.cancelled() else telling.exception()
        if error is not None and not self._broken.done():
            self._broken.set_exception(error)

    async def _refuse(self, error: ApiError | TuttiError, generation_id: str | None) -> None:
        known = error if isinstance(error, ApiError) else from_tutti(error)
        await self._outgoing.put(self._as_error(known, generation_id))

    def _as_error(self, error: ApiError, generation_id: str | None) -> str:
        told = {"event": "error", "generation_id": generation_id, **envelope(error, self._request_id)}
        retry_after = (error.headers or {}).get("Retry-After")
        if retry_after is not None:  # a message has no headers
            told["retry_after"] = int(retry_after)
        return json.dumps(told, separators=(",", ":"))

    async def _pump(self) -> int:
        while True:
            text = await self._next_text()
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._websocket.send_text(text)
            except TimeoutError:
                return CLOSE_TOO_SLOW
            except (WebSocketDisconnect, OSError):
                return CLOSE_NORMAL

    async def _next_text(self) -> str:
        """A ping if there was nothing to tell for a while."""
        try:
            async with asyncio.timeout(self.ping_s):
                return await self._outgoing.get()
        except TimeoutError:
            return '{"event":"ping"}'


def _parse(text: str) -> Subscribe | Unsubscribe | Ping:
    try:
        return actions.validate_json(text)
    except ValidationError as error:
        # As a body would be refused: where it is wrong, and never what was sent.
        raise from_validation([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None


def _as_text(generation_id: str, event: Event) -> str:
    number = "null" if event.id is None else f'"{event.id}"'
    return f'{{"event":"{event.name}","generation_id":"{generation_id}","id":{number},"data":{event.data}}}'
