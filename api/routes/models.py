"""``/api/v1/models``: what can be asked for."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from api.auth.policy import public
from api.errors import ErrorCode
from api.readiness import readiness
from api.schemas.errors import error_responses
from api.schemas.models import Model, ModelList, describe
from api.services import Provided

router = APIRouter(prefix="/api/v1", tags=["models"], dependencies=[Depends(public)])


@router.get("/models", summary="List the models", responses=error_responses(ErrorCode.INTERNAL_ERROR))
async def list_models(services: Provided) -> ModelList:
    """Every model served here, the default one marked."""
    return ModelList(data=await _described(services))


@router.get(
    "/models/{model_id}",
    summary="Describe one model",
    responses=error_responses(ErrorCode.MODEL_NOT_FOUND, ErrorCode.INTERNAL_ERROR),
)
async def get_model(model_id: str, services: Provided) -> Model:
    """Parameters, limits, licence and health of one model."""
    wanted, _ = services.model(model_id)
    return next(model for model in await _described(services) if model.id == wanted)


async def _described(services: Provided) -> list[Model]:
    ready = await readiness(services)
    return [
        describe(model_id, spec, default=model_id == services.default_model, ready=ready[model_id])
        for model_id, spec in services.models.items()
    ]
