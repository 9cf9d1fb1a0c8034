"""How long one more would wait, as the platform says it at its door: by the same arithmetic (``autoscaling.waits``).

Of replicas that start it knows what the autoscaler said at its last tick but one, for on the platform that is passed on
once a second: who was asked for since is not known yet, and who serves since may be counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoscaling.backlog import Capacity, Line, ModelBacklog, Work
from autoscaling.fairness import TierRule
from autoscaling.simulator.ends import Ends
from autoscaling.simulator.replicas import Replicas
from autoscaling.simulator.workload import Request
from autoscaling.starting import Expected, expected, once_awake
from autoscaling.waits import SPREAD, wait_s


class Door:
    """What is waited for by tier, and when those that run will have ended. Audio-seconds are its steps.

    All that waits of a tier is taken to come before one more, which costs nothing to know: of accounts that have one
    request each it is so.

    Args:
        knows_starts: False: as on a platform whose autoscaler does not say who starts.
    """

    def __init__(self, rules: Mapping[str, TierRule], replicas: Replicas, *, knows_starts: bool = True) -> None:
        self._rules = rules
        self._replicas = replicas
        self._knows_starts = knows_starts
        self._waiting = dict.fromkeys(rules, Work())
        self._running = dict.fromkeys(rules, 0)
        self._ends = Ends()
        self._said: Sequence[tuple[float, int]] = ()
        self._starting: Sequence[Expected] = ()

    def hear(self, now: float) -> None:
        """The autoscaler has decided: what it said before has come here by now."""
        if self._knows_starts:
            self._starting = expected(self._said, now)
            self._said = [(now + in_s, replicas) for in_s, replicas in self._replicas.starts(now)]

    def waits(self, request: Request) -> None:
        """From now on."""
        self._waiting[request.tier] += Work(request.audio_s, 1, 1)

    def waits_no_longer(self, request: Request) -> None:
        self._waiting[request.tier] += Work(-request.audio_s, -1, -1)

    def begins(self, request: Request, now: float) -> None:
        """In a replica; it will take as long as one of as many streams as there are places."""
        self._running[request.tier] += 1
        self._ends.add(request.id, now + request.audio_s * self._places / self._rate)

    def ends(self, request: Request) -> None:
        self._running[request.tier] -= 1
        self._ends.remove(request.id)

    @property
    def _serving(self) -> int:
        """Of replicas that are all away workers go on saying what one takes."""
        return max(1, self._replicas.ready)

    @property
    def _places(self) -> int:
        return self._serving * self._replicas.profile.streams

    @property
    def _rate(self) -> float:
        """Audio-seconds per second, when all places are taken."""
        return self._replicas.profile.together(self._serving)

    def wait_s(self, request: Request, now: float) -> float:
        """Seconds that it would wait."""
        self._ends.advance(now)
        count = len(self._ends)
        running = Work(self._replicas.left_audio_s(now), count, count, self._ends, self._running)
        lines = {
            name: {"": Line("", 0.0, work, work.steps)} for name, work in self._waiting.items() if work.generations
        }
        starting = self._starting if self._replicas.ready else once_awake(self._starting)
        capacity = Capacity(self._places, self._rate, per_replica=self._replicas.profile.streams)
        backlog = ModelBacklog(capacity, running, lines, starting)
        spread = SPREAD if request.mode == "stream" else 0.0
        wait = wait_s(request.tier, self._waiting[request.tier], 1, backlog, self._rules, spread=spread)
        assert wait is not None, "the capacity is known"
        return wait
