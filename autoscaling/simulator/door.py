"""How long one more would wait, as the platform says it at its door: by the same arithmetic (``autoscaling.backlog``).

Of replicas that start it knows nothing, and while tiers with larger shares hold most places it takes them to go on
doing so: it refuses more, and earlier, than a door that knows who will serve soon.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoscaling.backlog import SPREAD, Capacity, Line, ModelBacklog, Work, wait_s
from autoscaling.fairness import TierRule
from autoscaling.simulator.ends import Ends
from autoscaling.simulator.replicas import Replicas
from autoscaling.simulator.workload import Request


class PlatformDoor:
    """What is waited for by tier, and when those that run will have ended. Audio-seconds are its steps.

    All that waits of a tier is taken to come before one more, which costs nothing to know: of accounts that have one
    request each it is so.
    """

    def __init__(self, rules: Mapping[str, TierRule], replicas: Replicas) -> None:
        self._rules = rules
        self._replicas = replicas
        self._waiting = dict.fromkeys(rules, Work())
        self._running = dict.fromkeys(rules, 0)
        self._ends = Ends()

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
        backlog = ModelBacklog(Capacity(self._places, self._rate), running, lines)
        spread = SPREAD if request.mode == "stream" else 0.0
        wait = wait_s(request.tier, self._waiting[request.tier], 1, backlog, self._rules, spread=spread)
        assert wait is not None, "the capacity is known"
        return wait
