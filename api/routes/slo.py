"""``GET /api/v1/slo``: are the promises kept, and how much may still go wrong."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from api.auth.policy import require
from api.auth.principal import Principal, Role
from api.errors import ErrorCode
from api.schemas.errors import error_responses
from api.schemas.slo import ServiceLevels
from api.services import Provided
from api.telemetry.budget import attainment
from api.telemetry.compose import objectives
from api.telemetry.levels import service_levels

router = APIRouter(prefix="/api/v1", tags=["operations"])

Operator = Annotated[Principal, Depends(require(role=Role.OPERATOR))]


@router.get(
    "/slo",
    summary="Service levels and error budgets",
    responses=error_responses(
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.PERMISSION_DENIED,
        ErrorCode.RATE_LIMITED,
        ErrorCode.STORE_UNAVAILABLE,
        ErrorCode.INTERNAL_ERROR,
    ),
)
async def slo(services: Provided, _principal: Operator) -> ServiceLevels:
    """Good and bad requests of the whole platform, counted exactly, in windows that begin on a full five minutes.

    For operators. Events are counted within five seconds; those of a process that was killed before that are missing.
    """
    now = services.clock()
    async with services.db.read() as conn:
        found = await attainment(conn, now)
    return service_levels(found, objectives(), now)
