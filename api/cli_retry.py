"""When a client of the API tries again, how long it waits before, and in which words it gives up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import httpx2

from api.cli_output import CliError, ExitCode

RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
MAX_RETRY_AFTER_S = 60.0  # whoever waits longer should know that he does
_FIX_THE_COMMAND = frozenset({400, 401, 403, 404, 406, 413, 415, 422})
_PASSING = frozenset({429, 502, 503, 504})
# The generation itself has ended so: asking again brings the same answer.
_FINAL = frozenset({"generation_expired", "replica_lost"})
_IN_FLIGHT = "idempotency_in_flight"
_OVERLOADED = "system_overloaded"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something did not work, and whether it may work later.

    Attributes:
        retry_after_s: how long the server wants to be left alone; None: it did not say.
        is_refusal: nothing was done for sure. A server that broke, or a proxy that lost it, may have done it all.
    """

    error: CliError
    is_passing: bool = True
    retry_after_s: float | None = None
    is_refusal: bool = False

    @classmethod
    def of(cls, response: httpx2.Response) -> Problem:
        """The server's error envelope in our words; a status alone if it sent none."""
        status = response.status_code
        exit_code = ExitCode.USAGE if status in _FIX_THE_COMMAND else ExitCode.FAILED
        retry_after_s = _seconds(response.headers.get("retry-after", ""))
        try:
            told = response.json()["error"]
            message, code = str(told["message"]), str(told["code"])
        except (ValueError, KeyError, TypeError):
            message, code = f"the server answered {status} without saying why", "bad_answer"
        if status == 401:
            message += " The key comes from TUTTI_API_KEY or --key."
        if retry_after_s is not None and retry_after_s > MAX_RETRY_AFTER_S:
            message += f" The server asks to wait for {retry_after_s:g} s."
        is_passing = (status in _PASSING and code not in _FINAL) or code == _IN_FLIGHT
        is_refusal = (status < 500 and code != _IN_FLIGHT) or code == _OVERLOADED
        return cls(CliError(message, code, exit_code), is_passing, retry_after_s, is_refusal)


@dataclass(slots=True)
class Patience:
    """A bounded number of attempts, each after a longer wait than the one before."""

    _delays_s: list[float] = field(default_factory=lambda: list(RETRY_DELAYS_S))

    def restore(self) -> None:
        """Something came: from here on it is counted anew."""
        self._delays_s = list(RETRY_DELAYS_S)

    def next_delay_s(self, problem: Problem) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        after_s = problem.retry_after_s or 0.0
        if not problem.is_passing or after_s > MAX_RETRY_AFTER_S or not self._delays_s:
            return None
        return max(self._delays_s.pop(0), after_s)

    async def wait(self, problem: Problem) -> None:
        """Wait before the next attempt.

        Raises:
            CliError: the problem's own; trying again is of no use, or was tried often enough.
        """
        delay_s = self.next_delay_s(problem)
        if delay_s is None:
            raise problem.error
        await asyncio.sleep(delay_s)


def _seconds(retry_after: str) -> float | None:
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
