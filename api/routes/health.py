"""Is it alive, is it ready, what is it, what has it counted."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from api.auth.loopback import is_local
from api.auth.policy import public
from api.errors import ApiError, ErrorCode
from api.readiness import readiness
from api.schemas.errors import error_responses
from api.schemas.health import Dependency, Health, Readiness, Version
from api.services import Provided
from api.version import VERSION

router = APIRouter(tags=["operations"], dependencies=[Depends(public)])
_RETRY_AFTER_S = 5.0


@router.get("/health", summary="Is the process alive?")
async def health() -> Health:
    """Answers as long as the process does, whatever state its models are in."""
    return Health()


@router.get("/health/ready", summary="Would a request be served now?", responses=error_responses(ErrorCode.NOT_READY))
async def ready(services: Provided) -> Readiness:
    """Ready when every model's backend is. Each dependency is named; so is the reason of one that is not ready."""
    found = [
        Dependency(name=f"model:{model_id}", ready=answer is True, reason=answer if isinstance(answer, str) else None)
        for model_id, answer in (await readiness(services)).items()
    ]
    missing = [dependency.name for dependency in found if not dependency.ready]
    if missing:
        raise ApiError(
            ErrorCode.NOT_READY,
            f"not ready: {', '.join(missing)}",
            details={"dependencies": [dependency.model_dump() for dependency in found]},
            retry_after_s=_RETRY_AFTER_S,
        )
    return Readiness(dependencies=found)


@router.get("/version", summary="Which version is this?")
async def version(request: Request, services: Provided) -> Version:
    """The program's version, the API's, and whether this client needs a credential."""
    without = services.settings.environment == "development" and is_local(request)
    return Version(version=VERSION, credentials="optional" if without else "required")


@router.get(
    "/metrics",
    summary="This process's counters, for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(services: Provided) -> Response:
    return Response(services.metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
