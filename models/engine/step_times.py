"""How long a step takes, as a function of its rows: a line fitted to the steps as they are measured. Plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

# The first steps of a process load libraries and touch memory for the first time.
_WARM_UP_STEPS = 8
# What each new step leaves of the weight of those before it: about the last 500 (10 s of audio) count.
_MEMORY = 1 - 1 / 512
# A step that took so many times what was expected is an accident of the machine, and counts as this and no more. It
# must be well above a step that also decodes a chunk for everybody, since that is part of the price.
_LARGEST_SURPRISE = 8.0
# How much the slope found so far weighs against new steps, in rows²: without it the slope would be noise over noise
# while all steps have the same rows.
_OLD_SLOPE_WEIGHT = 1.0


@dataclass(slots=True)
class StepTimes:
    """seconds(rows) ≈ level + slope × rows, by least squares with exponential forgetting.

    A line suits a step that reads the weights once and each row's own past; where the truth bends, forgetting keeps
    the line a tangent at the rows in use. It is a mean and not a median on purpose: one step in fifty also decodes a
    second of audio, and that time is spent too. Numbers of rows never tried are taken to cost no more than those that
    were, until they have been tried (slope 0 at first): no row is ever held back on a guess.
    """

    steps: int = 0
    slope: float = 0.0
    _weight: float = 0.0
    _rows: float = 0.0  # weighted means
    _seconds: float = 0.0
    _rows_spread: float = 0.0  # weighted sums of products of distances from the means
    _shared_spread: float = 0.0

    @property
    def is_known(self) -> bool:
        return self._weight > 0

    def observe(self, rows: int, seconds: float) -> None:
        """A step of so many rows took so long."""
        self.steps += 1
        if self.steps <= _WARM_UP_STEPS:
            return
        if self.is_known:
            seconds = min(seconds, _LARGEST_SURPRISE * self.seconds(rows))
        # Welford's update of means and co-moments, weighted (D. H. D. West, 1979).
        self._weight = self._weight * _MEMORY + 1
        from_rows, from_seconds = rows - self._rows, seconds - self._seconds
        self._rows += from_rows / self._weight
        self._seconds += from_seconds / self._weight
        self._rows_spread = self._rows_spread * _MEMORY + from_rows * (rows - self._rows)
        self._shared_spread = self._shared_spread * _MEMORY + from_rows * (seconds - self._seconds)
        evidence = self._shared_spread + _OLD_SLOPE_WEIGHT * self.slope
        self.slope = max(0.0, evidence / (self._rows_spread + _OLD_SLOPE_WEIGHT))

    def seconds(self, rows: int) -> float:
        """How long a step of so many rows takes; 0 as long as nothing is known."""
        return max(0.0, self._seconds + self.slope * (rows - self._rows))

    def rows_within(self, seconds: float) -> float:
        """The most rows (a whole number, or infinity) of a step that takes no longer than this; may be 0."""
        if self.slope <= 0:
            return math.inf if self._seconds <= seconds else 0.0
        return max(0.0, math.floor(self._rows + (seconds - self._seconds) / self.slope + 1e-9))
