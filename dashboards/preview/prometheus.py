"""What the preview asks a Prometheus server, over its HTTP API (https://prometheus.io/docs/prometheus/latest/querying)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from models.errors import TuttiError

TIMEOUT_S: Final = 20.0
DEFAULT_INTERVAL_S: Final = 15.0
_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


class PrometheusError(TuttiError):
    """The server cannot be asked, or refuses the query; the message is the server's where there is one."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time. ``points`` are (unix seconds, value) in order; a value may be NaN."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        """The newest value that is a number; NaN of none."""
        return next((value for _, value in reversed(self.points) if not math.isnan(value)), math.nan)


@dataclass(frozen=True, slots=True)
class Window:
    """What is shown: from ``start`` to ``end`` (unix seconds), a value every ``step_s``."""

    start: float
    end: float
    step_s: float


def seconds(duration: str) -> float:
    """Of a duration as Prometheus writes it: "15m", "1h30m".

    Raises:
        ValueError: it is none, or nothing long.
    """
    parts = _PART.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is no duration: write it like 15m, 6h or 1d")
    total = sum(int(number) * _SECONDS[unit] for number, unit in parts)
    if total <= 0:
        raise ValueError(f"{duration!r} is no time at all: write it like 15m, 6h or 1d")
    return total


class Prometheus:
    """One server.

    Args:
        url: with user and password where it wants them.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx2.Client(timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def query(self, expr: str, at: float) -> list[Series]:
        """The value of every series of ``expr`` at one moment.

        Raises:
            PrometheusError: as below.
        """
        data = self._get("query", {"query": expr, "time": f"{at:.3f}"})
        if data["resultType"] == "scalar":
            return [Series({}, (_point(data["result"]),))]
        return [Series(each["metric"], (_point(each["value"]),)) for each in data["result"]]

    def query_range(self, expr: str, window: Window) -> list[Series]:
        """The values of every series of ``expr`` over a window.

        Raises:
            PrometheusError: the server is away, or says that the query is wrong or takes too long.
        """
        times = {"start": f"{window.start:.3f}", "end": f"{window.end:.3f}", "step": f"{window.step_s:.3f}"}
        data = self._get("query_range", {"query": expr, **times})
        return [Series(each["metric"], tuple(map(_point, each["values"]))) for each in data["result"]]

    def exemplars(self, expr: str, window: Window) -> list[Series]:
        """Single requests behind a histogram: their labels, time and value. None where the server keeps none.

        Raises:
            PrometheusError: as above.
        """
        times = {"start": f"{window.start:.3f}", "end": f"{window.end:.3f}"}
        found = [
            each for group in self._get("query_exemplars", {"query": expr, **times}) for each in group["exemplars"]
        ]
        return [Series(each["labels"], (_point((each["timestamp"], each["value"])),)) for each in found]

    def scrape_interval_s(self) -> float:
        """The longest interval at which it scrapes anybody: a rate needs a window of several of them.

        Raises:
            PrometheusError: as above.
        """
        targets = self._get("targets", {"state": "active"})["activeTargets"]
        intervals = [seconds(target["scrapeInterval"]) for target in targets if target.get("scrapeInterval")]
        return max(intervals, default=DEFAULT_INTERVAL_S)

    def _get(self, what: str, parameters: Mapping[str, str]) -> Any:
        try:
            response = self._http.get(f"{self.url}/api/v1/{what}", params=dict(parameters))
            answer = response.json()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise PrometheusError(f"No answer from Prometheus at {public(self.url)}: {said}") from error
        except ValueError as error:
            raise PrometheusError(f"Status {response.status_code} and no JSON: this is no Prometheus server") from error
        if not isinstance(answer, dict) or answer.get("status") != "success":
            raise PrometheusError(_refusal(answer, response.status_code))
        return answer["data"]


def public(url: str) -> str:
    """An address without user and password, to be shown."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2]


def _refusal(answer: object, status: int) -> str:
    said = answer.get("error") if isinstance(answer, dict) else None
    return str(said or f"Status {status}: this is no Prometheus server")


def _point(pair: Any) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
