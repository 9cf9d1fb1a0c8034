"""Is it alive, is it ready, what is it, what has it counted."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from api.auth.loopback import is_local
from api.auth.policy import public
from api.errors import ApiError, ErrorCode
from api.readiness import Asked
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


@router.get(
    "/metrics",
    summary="This process's counters, for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(services: Provided) -> Response:
    return Response(services.metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
