"""The composition root of the HTTP side: backends in, one FastAPI application out.

Runs without Ray and without torch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import cache

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute
from structlog.typing import FilteringBoundLogger

from api import handlers, openapi
from api.auth.policy import policies
from api.backend import Backend
from api.foundation import Foundation
from api.heap import settle_heap
from api.ids import new_id
from api.limits.door import Door
from api.limits.headers import RateHeaders
from api.logs import SERVICE, make_logger
from api.methods import Methods, WrittenOut
from api.middleware import BodyLimit, RequestContext, StripControlHeaders
from api.readiness import Readiness
from api.routes import account, auth, events, gallery, generate, generations, health, slo, uploads, web, webhooks, ws
from api.routes import models as model_routes
from api.schemas.errors import ErrorEnvelope
from api.services import Services
from api.settings import Settings
from api.store.database import prepare_check
from api.telemetry.compose import make_telemetry
from api.telemetry.reporting import reporting
from api.telemetry.zeros import begin_at_zero
from api.tracing import Tracing
from api.tracing_http import Traced
from api.version import VERSION
from api.versions import Versions
from models.catalog import ModelSpec


def create_app(
    backends: Mapping[str, Backend],
    models: Mapping[str, ModelSpec],
    settings: Settings | None = None,
    *,
    base: Foundation | None = None,
    log: FilteringBoundLogger | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        backends: model id → what makes its audio.
        models: model id → what it is; the same ids. The first one is the default model unless the settings name one.
        settings: left out: from the environment.
        base: left out: built from the settings; closed when the application stops.
        log: left out: JSON lines on standard error.
        tracing: left out: as the settings say; closed when the application stops.

    Raises:
        SettingsError: a TUTTI_* variable is unknown or bad, or there is no model to serve.
        PolicyError: a route does not say who may use it.
    """
    settings = settings or Settings()
    base = base or Foundation.build(settings)
    log = log or make_logger(settings.log_level, log_prompts=settings.log_prompts)
    tracing = tracing or Tracing.start(settings, SERVICE)
    telemetry = make_telemetry("ingress", base.clock)
    begin_at_zero(telemetry.registry, models)
    services = Services.build(base, backends, models, telemetry, log)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with base.closing(), reporting(telemetry, new_id("ing"), base, log):
            await prepare_check()
            settle_heap()
            yield
            await services.feed.close()
            await services.access.close()
            await services.generations.close()
            await services.accounts.close()
            await services.webhooks.close()
            services.uploads.close()
            await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="Tutti",
        version=VERSION,
        # The stock documentation pages load their scripts from a third party.
        docs_url=None,
        redoc_url=None,
        # A redirect would be an answer without an envelope; /health/ is simply not there.
        redirect_slashes=False,
        lifespan=lifespan,
        webhooks=webhooks.sent,
        # Its own spans would hold query strings and the words of exceptions; `Traced` makes ours.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )
    app.state.services = services
    app.state.readiness = Readiness(services)
    handlers.install(app)
    openapi.install(app, settings.public_url)
    app.router.routes.extend(_routes(settings.environment))
    policies(app)
    app.state.methods = methods = Methods(app.routes)
    # The last one added is the outermost.
    larger = {("POST", uploads.PATH): settings.max_upload_bytes}
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, exceptions=larger)
    app.add_middleware(Door, undecided=services.limits.undecided, known=services.known_refusal)
    app.add_middleware(WrittenOut, methods=methods)
    app.add_middleware(Versions)
    app.add_middleware(RateHeaders)
    app.add_middleware(StripControlHeaders)
    app.add_middleware(RequestContext, services=services)
    app.add_middleware(Traced, tracing=tracing)
    return app


@cache
def _routes(environment: str) -> tuple[BaseRoute, ...]:
    """Of every application of this process: what FastAPI derives from them takes most of an application's making.

    They hold nothing of any application: endpoints find its services by their request.
    """
    router = APIRouter(responses={"default": {"model": ErrorEnvelope, "description": "Any other error"}})
    for part in _routers(environment):
        router.include_router(part)
    return tuple(router.routes)


def _routers(environment: str) -> Iterator[APIRouter]:
    parts = (generate, generations, events, ws, gallery, webhooks, uploads, auth, account, model_routes, slo, health)
    yield from (part.router for part in parts)
    if environment == "development":
        yield auth.make_development_router()
    yield web.make_router()
