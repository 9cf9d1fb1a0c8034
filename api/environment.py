"""``TUTTI_*`` variables that cannot be taken, and how that is said."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

PREFIX = "TUTTI_"
_OF_CLIENTS = frozenset({"TUTTI_API_KEY"})  # `tutti generate --url` reads it; a server may find it beside its own


class SettingsError(ValueError):
    """A ``TUTTI_*`` variable is unknown or has a bad value: the message names it and says what to do."""


def refuse_unknown(environment: Mapping[str, str], fields: Iterable[str]) -> None:
    """A misspelt variable would be ignored in silence; here it stops the start.

    Args:
        fields: the names of the settings, without the prefix.

    Raises:
        SettingsError: naming the first unknown variable and the nearest known one.
    """
    known = {PREFIX + name.upper() for name in fields}
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known | _OF_CLIENTS:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise SettingsError(f"{name} is no setting of Tutti: {hint} Unset it or correct its name.")


def explain(error: ValidationError) -> str:
    """One line per bad value; the value itself stays out, it may be a secret."""
    return "; ".join(
        "".join(f"{PREFIX}{str(part).upper()}: " for part in e["loc"][:1]) + e["msg"].removeprefix("Value error, ")
        for e in error.errors()
    )
