"""Every error a client can see: one enum of codes, one envelope, one table from the music's errors to codes.

This package is the only place where an error meets a status.
"""

from api.errors.codes import ErrorCode
from api.errors.envelope import (
    ERROR_PAGE,
    LEGACY_JSON,
    PROBLEM_JSON,
    RETRY_SOON_S,
    ApiError,
    envelope,
    error_response,
    problem,
)
from api.errors.mapping import code_of, from_tutti

__all__ = [
    "ERROR_PAGE",
    "LEGACY_JSON",
    "PROBLEM_JSON",
    "RETRY_SOON_S",
    "ApiError",
    "ErrorCode",
    "code_of",
    "envelope",
    "error_response",
    "from_tutti",
    "problem",
]
