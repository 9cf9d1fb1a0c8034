"""What still works and will not for ever: said in headers (RFC 9745 and RFC 8594) wherever it is used.

Whoever serves something old calls ``mark``; the outermost middleware turns the marks of a request into headers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from starlette.requests import HTTPConnection

PAGE = "/errors"


@dataclass(frozen=True, slots=True)
class Deprecation:
    """One thing that is on its way out.

    Attributes:
        name: its anchor on the page that explains it.
        what: what is old about it and what to use instead, in a sentence.
        since: from when on it counts as deprecated.
        sunset: from when on it may be refused; None: not decided.
        successor: the address that takes its place, for a resource that moved.
    """

    name: str
    what: str
    since: datetime
    sunset: datetime | None = None
    successor: str | None = None


LEGACY_ERROR_BODY = Deprecation(
    "legacy-error-body",
    'The error body {"detail": …}, asked for by Accept: application/vnd.tutti.legacy+json. Read the envelope instead.',
    since=datetime(2026, 1, 1, tzinfo=UTC),
    sunset=datetime(2027, 7, 1, tzinfo=UTC),
)
LEGACY_API_KEY = Deprecation(
    "legacy-api-key",
    "API keys without the prefix sk_live_tt_ or sk_test_tt_. Make a new key (POST /api/v1/user/api-keys) and use that.",
    since=datetime(2026, 1, 1, tzinfo=UTC),
    sunset=datetime(2027, 7, 1, tzinfo=UTC),
)
DEPRECATIONS = (LEGACY_ERROR_BODY, LEGACY_API_KEY)


def mark(request: HTTPConnection, deprecation: Deprecation) -> None:
    """Note that this request uses something deprecated; its response will say so."""
    marks: set[Deprecation] = request.scope.setdefault("state", {}).setdefault("deprecations", set())
    marks.add(deprecation)


def headers(marks: Iterable[Deprecation]) -> list[tuple[str, str]]:
    """The headers of a response: the earliest dates of all that was used, and a link for each.

    ``Deprecation`` is a structured-field date (RFC 9745), ``Sunset`` an HTTP date (RFC 8594), the links' relations are
    theirs and ``successor-version`` (RFC 5829).
    """
    found = sorted(marks, key=lambda one: one.name)
    if not found:
        return []
    answer = [("Deprecation", f"@{int(min(one.since for one in found).timestamp())}")]
    sunsets = [one.sunset for one in found if one.sunset is not None]
    if sunsets:
        answer.append(("Sunset", format_datetime(min(sunsets), usegmt=True)))
    links = [f'<{PAGE}#{one.name}>; rel="deprecation"; type="text/html"' for one in found]
    links += [f'<{one.successor}>; rel="successor-version"' for one in found if one.successor]
    return [*answer, ("Link", ", ".join(links))]
