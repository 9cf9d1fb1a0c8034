"""The line before one process's decisions: who may wait in it, and when those it has no place for may come back."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from math import ceil

import pytest

from api.limits.coming_back import MAX_LATER_S
from api.limits.door import STANDING_S, WAITING, Undecided
from tests.api.limits.ticking import Ticking


def test_a_burst_is_let_in() -> None:
    undecided = Undecided()
    numbers = [undecided.enter() for _ in range(WAITING - 1)]
    assert not undecided.is_full
    for number in [*numbers, *numbers]:
        undecided.leave(number)
    assert len(undecided) == 0


def test_the_oldest_decides_whether_the_queue_stands() -> None:
    clock = Ticking()
    undecided = Undecided(clock)

    def stands() -> bool:
        return undecided.is_full

    oldest = [undecided.enter() for _ in range(WAITING)]
    assert not stands()
    clock.forward(STANDING_S + 0.01)
    assert stands()
    for _ in range(WAITING):
        undecided.enter()
    for number in oldest:
        assert stands()
        undecided.leave(number)
    assert not stands()
    assert len(undecided) == WAITING


def test_who_is_turned_away_is_told_to_come_behind_those_before() -> None:
    clock = Ticking()
    undecided = Undecided(clock)
    for _ in range(10):
        undecided.leave(undecided.enter())
    waiting = [undecided.enter() for _ in range(WAITING)]
    # Ten are decided in a second: the 32 that wait take 3.2 s, and each one that is turned away 0.1 s more.
    advice = [undecided.turn_away() for _ in range(20)]
    assert advice == pytest.approx([3.2 + 0.1 * number for number in range(20)])
    clock.forward(advice[-1] + 2.0)  # all of them are due, and nothing was decided meanwhile
    for number in waiting:
        undecided.leave(number)
    assert undecided.turn_away() == 0.0


def test_a_short_stop_is_not_taken_for_a_slow_server() -> None:
    clock = Ticking()
    undecided = Undecided(clock)
    for _ in range(20):
        undecided.leave(undecided.enter())
    clock.forward(3.0)
    for _ in range(WAITING):
        undecided.enter()
    assert undecided.turn_away() == pytest.approx(WAITING / 20)
    clock.forward(3.0)  # by now it is slow
    assert undecided.turn_away() == WAITING


def test_an_endless_line_sends_nobody_away_for_ever() -> None:
    undecided = Undecided(Ticking())
    undecided.enter()
    assert max(undecided.turn_away() for _ in range(1000)) == MAX_LATER_S


def test_who_comes_back_when_told_is_let_in() -> None:
    """20 creates a second are decided, and 60 come for a minute and a half: the line outside is three minutes long."""
    clock, overload_s, per_s = Ticking(0.0), 90, 20
    undecided = Undecided(clock)
    coming = [number / (3 * per_s) for number in range(3 * per_s * overload_s)]
    waiting: deque[int] = deque()
    came_back = refused_again = tick = 0
    while coming:
        tick += 1
        clock.now_s = tick / per_s
        if waiting:
            undecided.leave(waiting.popleft())
        while coming and coming[0] <= clock.now_s:
            is_back = heappop(coming) > overload_s  # nobody new comes by then
            came_back += is_back
            if undecided.is_full:
                refused_again += is_back
                heappush(coming, clock.now_s + max(1, ceil(undecided.turn_away())))  # whole seconds, as in the header
            else:
                waiting.append(undecided.enter())
    assert came_back > 1000
    assert refused_again < 0.05 * came_back
