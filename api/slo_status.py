"""How the service levels stand, as a running server tells it (``GET /api/v1/slo``), in a table for people."""

from __future__ import annotations

from typing import Any, Final

import httpx2
from rich.table import Table

from api.cli_output import CliError
from api.cli_retry import Problem

PATH: Final = "/api/v1/slo"
_TIMEOUT_S: Final = 10.0
_BURNS: Final = ("1h", "6h", "3d")


async def fetch(url: str, key: str | None, transport: httpx2.AsyncBaseTransport | None = None) -> dict[str, Any]:
    """What the server says, for operators.

    Args:
        url: its address.
        key: an operator's API key; None: the server knows this machine.
        transport: how bytes travel; None is the network.

    Raises:
        CliError: it cannot be reached, or refuses.
    """
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(
        base_url=url.rstrip("/"), headers=headers, timeout=_TIMEOUT_S, transport=transport, trust_env=False
    ) as client:
        try:
            response = await client.get(PATH)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            message = f"{url} cannot be reached: {error}. Is the server up? Prometheus keeps the same figures."
            raise CliError(message, "unreachable") from error
    if response.status_code != httpx2.codes.OK:
        raise Problem.of(response).error
    try:
        return _checked(response.json())
    except (ValueError, KeyError, TypeError) as error:
        raise CliError(f"{url}{PATH} does not speak as Tutti does: {error!r}", "bad_answer") from error


def _checked(told: dict[str, Any]) -> dict[str, Any]:
    """With the fields that the table reads."""
    for level in told["service_levels"]:
        _row(level)
    return told


def as_table(told: dict[str, Any]) -> Table:
    """Most endangered first; service levels without any event last."""
    table = Table(title=f"Service levels at {told['as_of']}", title_justify="left", box=None, pad_edge=False)
    for column in ("service level", "promised", "kept", "bad", "budget left", *(f"burn {name}" for name in _BURNS)):
        table.add_column(column, justify="left" if column == "service level" else "right")
    for level in sorted(told["service_levels"], key=_remaining):
        table.add_row(*_row(level), style="bold red" if _remaining(level) <= 0 else "")
    return table


def _remaining(level: dict[str, Any]) -> float:
    remaining = level["error_budget"]["remaining"]
    return float("inf") if remaining is None else float(remaining)


def _row(level: dict[str, Any]) -> tuple[str, ...]:
    budget, windows = level["error_budget"], level["windows"]
    burns = (_burn(windows[name]["burn_rate"]) for name in _BURNS)
    kept = windows[budget["window"]]["attainment"]
    name = f"{level['sli']} {level['tier']}"
    return (
        name,
        _percent(level["objective"]),
        _percent(kept),
        str(budget["spent"]),
        _percent(budget["remaining"]),
        *burns,
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.4g} %"


def _burn(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.3g}×"
