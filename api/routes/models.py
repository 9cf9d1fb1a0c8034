"""``/api/v1/models``: what can be asked for."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from api.auth.policy import public
from api.errors import ErrorCode
from api.readiness import Asked, Readiness
from api.schemas.errors import error_responses
from api.schemas.models import Model, ModelList, describe
from api.services import Provided, Services

router = APIRouter(prefix="/api/v1", tags=["models"], dependencies=[Depends(public)])


@router.get("/models", summary="List the models")
async def list_models(services: Provided, readiness: Asked) -> ModelList:
    """Every model served here, the default one marked."""
    return ModelList(data=await _described(services, readiness))


@router.get("/models/{model_id}", summary="Describe one model", responses=error_responses(ErrorCode.MODEL_NOT_FOUND))
async def get_model(model_id: str, services: Provided, readiness: Asked) -> Model:
    """Parameters, limits, licence and health of one model."""
    wanted, _ = services.model(model_id)
    return next(model for model in await _described(services, readiness) if model.id == wanted)


async def _described(services: Services, readiness: Readiness) -> list[Model]:
    states = (await readiness.found()).models
    tiers = [services.limits.tier(name) for name in services.limits.tiers.names]
    return [
        describe(model_id, spec, tiers, states[model_id], default=model_id == services.default_model)
        for model_id, spec in services.models.items()
    ]
