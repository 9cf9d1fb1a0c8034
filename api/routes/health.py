"""Is it alive, is it ready, what is it, what has it counted."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from redis.exceptions import RedisError
from starlette.responses import Response

from api.auth.challenge import refused
from api.auth.loopback import is_local
from api.auth.policy import public
from api.errors import ApiError, ErrorCode
from api.readiness import Asked
from api.schemas.errors import error_responses
from api.schemas.health import Dependency, Health, Readiness, TargetGroup, Version
from api.services import Provided
from api.telemetry.discovery import Targets
from api.telemetry.exporter import allows
from api.version import VERSION

router = APIRouter(tags=["operations"], dependencies=[Depends(public)])
_RETRY_AFTER_S = 5.0


@router.get("/health", summary="Is the process alive?")
async def health() -> Health:
    """Answers as long as the process does, whatever state its models are in."""
    return Health()


@router.get("/health/ready", summary="Would a request be served now?", responses=error_responses(ErrorCode.NOT_READY))
async def ready(readiness: Asked) -> Readiness:
    """Ready when every model, the database and the storage are. Each dependency is named; so is what is wrong.

    Without the cache or without workers the server is ready nevertheless: what it accepts is kept, and only waits.
    """
    found = await readiness.found()
    models = {f"model:{model_id}": state.ready for model_id, state in found.models.items()}
    needed = [_dependency(name, answer) for name, answer in {**models, **found.stores}.items()]
    helping = [_dependency(name, answer, required=False) for name, answer in found.helpers.items()]
    missing = [dependency.name for dependency in needed if not dependency.ready]
    if missing:
        raise ApiError(
            ErrorCode.NOT_READY,
            f"not ready: {', '.join(missing)}",
            details={"dependencies": [dependency.model_dump() for dependency in needed + helping]},
            retry_after_s=_RETRY_AFTER_S,
        )
    return Readiness(dependencies=needed + helping)


def _dependency(name: str, answer: bool | str, *, required: bool = True) -> Dependency:
    reason = answer if isinstance(answer, str) else None
    return Dependency(name=name, ready=answer is True, required=required, reason=reason)


@router.get("/version", summary="Which version is this?")
async def version(request: Request, services: Provided) -> Version:
    """The program's version, the API's, and whether this client needs a credential."""
    without = services.settings.environment == "development" and is_local(request)
    return Version(version=VERSION, credentials="optional" if without else "required")


_SCRAPED = error_responses(ErrorCode.UNAUTHENTICATED, ErrorCode.INVALID_CREDENTIALS)
_TARGETS = error_responses(ErrorCode.UNAUTHENTICATED, ErrorCode.INVALID_CREDENTIALS, ErrorCode.NOT_READY)


async def scraper(request: Request, services: Provided) -> None:
    """Who may read metrics: with the configured token whoever sends it, without one this machine.

    Raises:
        ApiError: unauthenticated, invalid_credentials.
    """
    token, sent = services.settings.metrics_token, request.headers.get("authorization")
    if allows(token, sent) if token is not None else is_local(request):
        return
    if sent is None:
        message = "metrics are read from the server's own machine, or with the bearer token of TUTTI_METRICS_TOKEN"
        raise refused(ErrorCode.UNAUTHENTICATED, message)
    raise refused(ErrorCode.INVALID_CREDENTIALS, "this is not the token of TUTTI_METRICS_TOKEN")


@router.get(
    "/metrics",
    summary="One gateway replica's counters, for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_SCRAPED},
    dependencies=[Depends(scraper)],
)
async def metrics(
    services: Provided, accept: Annotated[str | None, Header(description="OpenMetrics has exemplars")] = None
) -> Response:
    """Of the replica that happens to answer: with several of them, scrape what `/metrics/targets` lists instead."""
    text, content_type = await asyncio.to_thread(services.telemetry.registry.render, accept)
    return Response(text, headers={"Content-Type": content_type})


@router.get(
    "/metrics/targets",
    summary="Every replica's metrics, for Prometheus's http_sd",
    responses=_TARGETS,
    dependencies=[Depends(scraper)],
)
async def metrics_targets(services: Provided) -> list[TargetGroup]:
    """Gateways, workers and engines, each with the port on which it serves `/metrics`. One that dies is on the list for
    30 seconds more."""
    try:
        found = await Targets(services.cache).all()
    except (RedisError, OSError) as error:
        # An empty list would make Prometheus forget everybody; after an error it goes on with the last one.
        raise ApiError(
            ErrorCode.NOT_READY, "the cache does not answer, which holds the list", retry_after_s=_RETRY_AFTER_S
        ) from error
    return [TargetGroup.model_validate(target.as_http_sd()) for target in found]
