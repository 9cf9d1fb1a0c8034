"""The composition root of the HTTP side: backends in, one FastAPI application out.

Runs without Ray and without torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI
from structlog.typing import FilteringBoundLogger

from api import handlers, openapi
from api.backend import Backend
from api.logs import make_logger
from api.metrics import Metrics
from api.middleware import BodyLimit, RequestContext, StripControlHeaders
from api.routes import generate, health, web
from api.routes import models as model_routes
from api.schemas.errors import ErrorEnvelope
from api.services import Services
from api.settings import Settings
from api.version import VERSION
from api.versions import Versions
from models.catalog import ModelSpec


def create_app(
    backends: Mapping[str, Backend],
    models: Mapping[str, ModelSpec],
    settings: Settings | None = None,
    *,
    log: FilteringBoundLogger | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        backends: model id → what makes its audio.
        models: model id → what it is; the same ids. The first one is the default model unless the settings name one.
        settings: left out: from the environment.
        log: left out: JSON lines on standard error.

    Raises:
        SettingsError: a TUTTI_* variable is unknown or bad, or there is no model to serve.
    """
    settings = settings or Settings()
    services = Services(
        backends, models, settings, Metrics(), log or make_logger(settings.log_level, log_prompts=settings.log_prompts)
    )
    app = FastAPI(
        title="Tutti",
        version=VERSION,
        # The stock documentation pages load their scripts from a third party.
        docs_url=None,
        redoc_url=None,
        # A redirect would be an answer without an envelope; /health/ is simply not there.
        redirect_slashes=False,
        responses={"default": {"model": ErrorEnvelope, "description": "Any other error"}},
    )
    app.state.services = services
    handlers.install(app)
    openapi.install(app, settings.public_url)
    for router in (generate.router, model_routes.router, health.router, web.make_router()):
        app.include_router(router)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(Versions)
    app.add_middleware(StripControlHeaders)
    app.add_middleware(RequestContext, services=services)
    return app
