"""Where a page ended: opaque to clients, checked when it comes back.

It holds a place in the order, not a number of rows, so nothing is shown twice or left out when rows are added or
removed between two pages. It is not signed: whatever it says, only rows of the account that asks are looked at.
"""

from __future__ import annotations

import base64
import re
from datetime import datetime, timedelta

from api.errors import ApiError, ErrorCode

_ID = re.compile(r"[a-z]{3}_[0-9a-f]{24}")
MAX_CHARACTERS = 120


def write(created_at: datetime, row_id: str) -> str:
    """The place of a row in the order by time and id."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()} {row_id}".encode()).decode().rstrip("=")


def read(cursor: str) -> tuple[datetime, str]:
    """(time, id) of the row it names.

    Raises:
        ApiError: invalid_parameter: it is none of ours.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        at, _, row_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").partition(" ")
        created_at = datetime.fromisoformat(at)
    except ValueError:
        raise _refused() from None
    if created_at.utcoffset() != timedelta() or _ID.fullmatch(row_id) is None:
        raise _refused()
    return created_at, row_id


def _refused() -> ApiError:
    message = "the cursor is none of this list's: send the `next_cursor` of the page before, or leave it out"
    return ApiError(ErrorCode.INVALID_PARAMETER, message, param="cursor")
