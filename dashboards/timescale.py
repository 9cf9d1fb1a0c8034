"""Windows made shorter by a factor, so that a load test of ten minutes sees the alerts of a month."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dashboards.durations import duration, seconds
from models.errors import TuttiError

SCRAPE_S: Final = 15.0
"""Seconds between two looks at every target, and between two evaluations of the rules, at scale 1."""

_FASTEST_S: Final = 0.5
_LOOKS_PER_WINDOW: Final = 4
_SHORTEST_WINDOW_S: Final = 300.0
LARGEST: Final = _SHORTEST_WINDOW_S / (_LOOKS_PER_WINDOW * _FASTEST_S)


class TimeScaleError(TuttiError):
    """Windows cannot be made so many times shorter."""


@dataclass(frozen=True, slots=True)
class TimeScale:
    """Every window and waiting time is divided by ``factor``; names keep the nominal ones.

    Raises:
        TimeScaleError: the factor is below 1, or so large that the shortest window holds too few samples.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= LARGEST:
            raise TimeScaleError(
                f"The time scale must lie between 1 and {LARGEST:g}, not {self.factor:g}: with more, the window of "
                f"5 minutes would hold fewer than {_LOOKS_PER_WINDOW} samples taken every {_FASTEST_S:g} s."
            )

    def window(self, nominal: str) -> str:
        """The range to write into an expression for a nominal window."""
        return duration(seconds(nominal) / self.factor)

    def wait(self, nominal_s: float) -> float:
        """Seconds to wait for nominally so many; not below the time between two evaluations."""
        return max(nominal_s / self.factor, self.scrape_s)

    @property
    def scrape_s(self) -> float:
        """Seconds between two scrapes, and between two evaluations of rules."""
        return max(SCRAPE_S / self.factor, _FASTEST_S)
