"""Who is refused first when there is too much for all, and that who is let in is served in time.

The line is the one that serves, in memory; the decision is the gateway's.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from api.errors import ApiError
from api.generations.outlook import Backlogs
from api.limits import Limits
from api.limits.admission import Admission
from api.limits.concurrency import Mode
from api.store.database import Database
from autoscaling.backlog import Backlog, Capacity, Line, ModelBacklog, Work
from autoscaling.fair_queue import FairQueue
from autoscaling.fairness import Slots, Waiting
from tests.api.limits.asking import ask, fill, newcomer
from tests.api.limits.rows import NOW, TIERS, Hands, add_account

SLOTS, TRACK_S = 16, 10.0
ORDER: list[tuple[str, Mode]] = [
    ("free", "async"), ("free", "stream"), ("pro", "async"), ("pro", "stream"),
    ("enterprise", "async"), ("enterprise", "stream"),
]  # fmt: skip
PARTS = {"free": 0.6, "pro": 0.3, "enterprise": 0.1}


@dataclass
class Platform:
    """Tracks of ten seconds, each of an account of its own, on slots that make them in real time."""

    clock: Hands = field(default_factory=Hands)
    queue: FairQueue = field(default_factory=lambda: FairQueue(TIERS.rules))
    waiting: dict[str, tuple[str, float]] = field(default_factory=dict)  # account → tier, when it came
    running: list[tuple[float, str]] = field(default_factory=list)  # (end, account)
    waits: dict[tuple[str, Mode], list[float]] = field(default_factory=dict)
    modes: dict[str, Mode] = field(default_factory=dict)
    tiers: dict[str, str] = field(default_factory=dict)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.backlogs = Backlogs()
        # Nobody who was refused comes back here: the door counts on them until they would.
        self.admission = Admission(TIERS, self.backlogs, self.clock, lambda: self.now_s)

    def advance(self, to_s: float) -> None:
        while self.running and self.running[0][0] <= to_s:
            self.now_s, account = heapq.heappop(self.running)
            self.queue.finished(account)
            self._serve()
        self.now_s = to_s
        self.clock.now = NOW + timedelta(seconds=to_s)

    def ask(self, account: str, tier: str, mode: Mode) -> bool:
        """Whether it is let in."""
        self.backlogs.seen(self._backlog())
        try:
            self.admission.check_early(newcomer(account, TIERS[tier], mode))
        except ApiError:
            return False
        due = NOW + timedelta(seconds=self.now_s + 1000 * (mode == "async"))
        self.waiting[account], self.modes[account], self.tiers[account] = (tier, self.now_s), mode, tier
        self.queue.push(account, tier, Waiting(account, 1, TRACK_S, mode, due))
        self._serve()
        return True

    def _serve(self) -> None:
        while (chosen := self.queue.pop(Slots(SLOTS, SLOTS - len(self.running)))) is not None:
            account, _ = chosen
            tier, came_s = self.waiting.pop(account)
            self.waits.setdefault((tier, self.modes[account]), []).append(self.now_s - came_s)
            heapq.heappush(self.running, (self.now_s + TRACK_S, account))

    def _backlog(self) -> Backlog:
        lines: dict[str, dict[str, Line]] = {}
        for account, (tier, _) in self.waiting.items():
            clock_s = self.queue._accounts[account].virtual_s
            lines.setdefault(tier, {})[account] = Line(account, clock_s, Work(500.0, 1, 1), TRACK_S)
        ends_s = tuple(sorted(end - self.now_s for end, _ in self.running))
        by_tier = Counter(self.tiers[account] for _, account in self.running)
        work = Work(50 * sum(ends_s), len(ends_s), len(ends_s), ends_s, by_tier)
        return Backlog(self.clock(), {"tiny": ModelBacklog(Capacity(SLOTS, 50.0 * SLOTS), work, lines)})


@pytest.fixture
def ramp() -> tuple[Platform, dict[tuple[str, Mode], list[tuple[float, bool]]]]:
    """From half of what the slots make to four times as much, and whether each was let in."""
    platform, chance = Platform(), random.Random(5)
    asked: dict[tuple[str, Mode], list[tuple[float, bool]]] = {each: [] for each in ORDER}
    at = 0.0
    for number in range(2200):
        load = 0.5 + 3.5 * number / 2200
        at += chance.expovariate(load * SLOTS / TRACK_S)
        platform.advance(at)
        (tier,) = chance.choices(list(PARTS), list(PARTS.values()))
        mode: Mode = chance.choice(("stream", "async"))
        asked[tier, mode].append((at, platform.ask(f"acc_{number:05}", tier, mode)))
    return platform, asked


Ramp = tuple[Platform, dict[tuple[str, Mode], list[tuple[float, bool]]]]


def test_the_smaller_tier_is_refused_first_and_of_each_its_jobs(ramp: Ramp) -> None:
    _, asked = ramp
    let_in = {each: sum(was for _, was in asked[each]) / len(asked[each]) for each in ORDER}
    assert [round(let_in[each], 2) for each in ORDER] == sorted(round(let_in[each], 2) for each in ORDER), let_in
    first = {each: min((at for at, was in asked[each] if not was), default=float("inf")) for each in ORDER}
    tiers = [min(first[tier, "async"], first[tier, "stream"]) for tier in ("free", "pro", "enterprise")]
    assert tiers == sorted(tiers)
    assert first["free", "stream"] < float("inf")
    assert let_in["enterprise", "stream"] == 1.0


def test_who_is_let_in_begins_within_what_his_tier_is_promised(ramp: Ramp) -> None:
    """But for a few free listeners whom others overtake that were not known of yet, as the load doubles and doubles."""
    platform, _ = ramp
    for tier, most in {"free": 0.03, "pro": 0.01, "enterprise": 0.0}.items():
        waits = platform.waits[tier, "stream"]
        late = sum(wait > TIERS[tier].max_stream_wait_s for wait in waits)
        assert late <= most * len(waits), (tier, late, len(waits))


async def test_jobs_give_way_while_a_listener_who_was_refused_has_not_come_back(
    database: Database, limits: Limits, clock: Hands
) -> None:
    limits.admission = Admission(TIERS, limits.backlogs, clock, lambda: 0.0)
    await fill(database, steps=20 * 200)
    await add_account(database, "acc_2", tier="pro")
    await ask(database, limits)  # 20 s: a job may wait for as long
    with pytest.raises(ApiError, match="promised 9 s"):
        await ask(database, limits, newcomer(mode="stream"))
    with pytest.raises(ApiError, match="listeners of the free tier have to be refused") as caught:
        await ask(database, limits)
    assert 13 <= int((caught.value.headers or {})["Retry-After"]) <= 15  # 22.5 s of work, but for the listeners' 9 s
    assert (caught.value.details or {})["max_wait_s"] == 300.0
    await ask(database, limits, newcomer("acc_2", TIERS["pro"]))  # other tiers do not
    await ask(database, limits, newcomer(model_id="small"))  # nor do other models


async def test_a_job_that_begins_at_once_takes_nobodys_place(database: Database, limits: Limits, clock: Hands) -> None:
    await fill(database, steps=20 * 200)
    with pytest.raises(ApiError):
        await ask(database, limits, newcomer(mode="stream"))
    limits.backlogs.seen(Backlog(clock(), {"tiny": ModelBacklog(Capacity(4, 200.0))}))
    limits.admission.check_early(newcomer())
