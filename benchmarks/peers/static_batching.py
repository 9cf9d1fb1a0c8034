"""Static batching with a window, as serving frameworks offer it for any model: transformers behind a short wait.

A request waits until the first of its batch is 50 ms old or the batch is full; the batch runs as long as its longest
stream, and meanwhile nobody joins. One model, one batch at a time, as on one device.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.serving import Clock, Log, Served
from benchmarks.sides import Side
from benchmarks.workload import Arrival

WINDOW_S = 0.05
LARGEST_BATCH = 8


class StaticBatching:
    """
    Args:
        side: makes one batch.
    """

    def __init__(self, side: Side) -> None:
        self._side = side

    def serve(self, arrivals: Sequence[Arrival], limit_s: float) -> Served:
        """Batch after batch; none is begun after the limit."""
        log, clock, done = Log(arrivals), Clock(), 0
        while done < len(arrivals) and clock.now_s < limit_s:
            count = batch_size([arrival.at_s for arrival in arrivals[done:]], clock.now_s)
            if count == 0:
                clock.wait_until(min(limit_s, _window_end(arrivals[done].at_s, clock.now_s)))
                continue
            self._side.make([arrival.stream for arrival in arrivals[done : done + count]])
            for index in range(done, done + count):
                log.finished(index, clock.now_s)
            done += count
        return log.served(clock.now_s)


def batch_size(at_s: Sequence[float], now_s: float) -> int:
    """How many of those that wait, by time of arrival, run now; 0 is to wait on."""
    here = sum(each <= now_s for each in at_s[:LARGEST_BATCH])
    is_due = here == LARGEST_BATCH or (here > 0 and now_s - at_s[0] >= WINDOW_S)
    return here if is_due else 0


def _window_end(first_s: float, now_s: float) -> float:
    """When to look again: at the arrival, then in pieces of the window, as the batch may be full before its end."""
    return first_s if now_s < first_s else min(first_s + WINDOW_S, now_s + WINDOW_S / 10)
