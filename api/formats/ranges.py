"""Conditional and partial requests (RFC 9110, sections 13 and 14), for files of known size."""

from __future__ import annotations

import re
from collections.abc import Mapping

from api.errors import ApiError, ErrorCode

_RANGE = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE)


def requested_range(headers: Mapping[str, str], etag: str, size: int) -> tuple[int, int] | None:
    """The bytes ``[start, stop)`` that are asked for; None: the whole file.

    Several ranges at once, units other than bytes and what cannot be read are ignored, which the RFC allows; a range
    of another version of the file (If-Range) too, which it demands.

    Raises:
        ApiError: range_not_satisfiable.
    """
    header = headers.get("range", "")
    matched = _RANGE.fullmatch(header)
    if matched is None or headers.get("if-range", etag) != etag:
        return None
    first, last = matched[1], matched[2]
    if not first and not last:
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None  # no range at all
    if start >= size or start >= stop:
        details = {"size": size}
        raise ApiError(ErrorCode.RANGE_NOT_SATISFIABLE, details=details, headers={"Content-Range": f"bytes */{size}"})
    return start, stop


def is_known(headers: Mapping[str, str], etag: str) -> bool:
    """If-None-Match names this version, so the client has the bytes already."""
    given = headers.get("if-none-match")
    if given is None:
        return False
    names = [name.strip().removeprefix("W/") for name in given.split(",")]
    return "*" in names or etag in names
