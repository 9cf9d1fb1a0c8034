"""From the errors of the music, the storage and the store to a code. The engine never says HTTP."""

from __future__ import annotations

from api.errors.codes import ErrorCode
from api.errors.envelope import RETRY_SOON_S, ApiError
from api.storage.errors import StorageUnavailableError
from api.store.errors import StoreError
from models.errors import (
    CheckpointError,
    EngineDeadError,
    EngineOverloadedError,
    GenerationFailedError,
    InvalidRequestError,
    ModelNotFoundError,
    ReplicaLostError,
    TuttiError,
)

# Subclasses are found through their bases; what is not here is a bug.
TABLE: dict[type[TuttiError], ErrorCode] = {
    InvalidRequestError: ErrorCode.INVALID_PARAMETER,
    ModelNotFoundError: ErrorCode.MODEL_NOT_FOUND,
    EngineOverloadedError: ErrorCode.SYSTEM_OVERLOADED,
    EngineDeadError: ErrorCode.MODEL_UNAVAILABLE,
    CheckpointError: ErrorCode.MODEL_UNAVAILABLE,
    ReplicaLostError: ErrorCode.REPLICA_LOST,
    GenerationFailedError: ErrorCode.GENERATION_FAILED,
    StorageUnavailableError: ErrorCode.STORAGE_UNAVAILABLE,
    StoreError: ErrorCode.STORE_UNAVAILABLE,
}


def from_tutti(error: TuttiError) -> ApiError:
    """The music's error as the API says it. The engine's own words are kept only where they are meant for callers."""
    code = code_of(error) or ErrorCode.INTERNAL_ERROR
    if isinstance(error, InvalidRequestError):
        return ApiError(code, error.message, param=error.param)
    if isinstance(error, ModelNotFoundError):
        return ApiError(code, str(error), param="model")
    if isinstance(error, EngineOverloadedError):
        return ApiError(code, retry_after_s=error.retry_after_s)
    return ApiError(code, retry_after_s=RETRY_SOON_S if code.status == 503 else None)


def code_of(error: TuttiError) -> ErrorCode | None:
    """The code of the music's error, for whoever says it otherwise than over HTTP; None: it has none."""
    return next((TABLE[cls] for cls in type(error).__mro__ if cls in TABLE), None)
