"""The 401 with the challenge that RFC 9110 requires of it, in the words of RFC 6750."""

from __future__ import annotations

from typing import Final

from api.errors import ApiError, ErrorCode

REALM: Final = 'Bearer realm="tutti"'


def refused(code: ErrorCode, message: str | None = None) -> ApiError:
    """An error of one of the codes with status 401."""
    detail = "" if code is ErrorCode.UNAUTHENTICATED else ', error="invalid_token"'
    return ApiError(code, message, headers={"WWW-Authenticate": REALM + detail})
