"""Known music is worked through a bounded number of rows at a time, soonest needed first, and nobody is left behind."""

from __future__ import annotations

from itertools import pairwise

from models.engine.chunks import ChunkPolicy
from models.engine.filling import shares
from models.engine.listener import Listener
from models.engine.pacing import Pacer
from models.engine.scheduler import Scheduler
from models.engine.sequence import KNOWN_FRAMES_PER_TURN, Sequence
from models.engine.windows import windows_of
from models.engine_config import EngineConfig
from models.types import GenerationRequest, SamplingParams

Item = Sequence[int]
DELAY = 3


def sequence(name: str, frames: int, known: int, guidance: float = 3.0, slack_s: float | None = None) -> Item:
    request = GenerationRequest(name, "x", 1.0, sampling=SamplingParams(guidance=guidance))
    item = Item(request, frames, DELAY, windows=windows_of(frames, known, 100, 60), fill_share=4)
    if slack_s is not None:
        item.listener = Listener(ChunkPolicy(EngineConfig(), 50), 50, 4, 25, 0.0, time_left_s=slack_s)
    return item


def test_who_needs_it_soonest_is_filled_first() -> None:
    later, sooner, unheard = sequence("a", 50, 9, slack_s=2.0), sequence("b", 50, 3, slack_s=1.0), sequence("c", 50, 40)
    assert shares([unheard, later, sooner], 16) == ((sooner, 3), (later, 5), (unheard, 0))
    assert shares([later, unheard, sooner], 16, unheard_first=True) == ((unheard, 8), (sooner, 0), (later, 0))
    assert shares([unheard], 16) == ((unheard, 8),)
    assert shares([sequence("d", 50, 40, guidance=1.0)], 16)[0][1] == 16


class Pool:
    """KV positions without end."""

    free_positions = 10**6

    def can_allocate(self, positions: object) -> bool:
        return True

    def allocate(self, positions: int) -> int:
        return positions

    def free(self, handle: int) -> None: ...


def test_those_who_sample_do_so_in_every_step_and_the_others_get_there() -> None:
    line = Scheduler[int](Pool(), max_rows=20, max_queue=9, max_joins_per_step=9, fill_rows=6)
    plain, one, other = sequence("p", 30, 0), sequence("a", 70, 50), sequence("b", 30, 20, guidance=1.0)
    for item in (plain, one, other):
        line.add(item)
    compositions, filled = [], 0
    for turn in range(200):
        plan = line.schedule(turn / 50)
        shared = dict(plan.filling)
        compositions.append((plan.composition, [item for item in plan.running if item not in shared]))
        assert plan.filled_rows <= 6
        if shared:
            assert plan.filled_rows >= 5, "what one can not use is another's"
        filled += plan.filled_rows
        assert plain not in shared
        for item in plan.running:
            item.advance(shared.get(item))
        for item in (plain, one, other):
            if item.request_id in line and item.remaining_steps <= 0:
                line.remove(item.request_id)
        line.check_integrity()
        if not line.has_work:
            break
    assert not line.has_work
    assert filled == 2 * 50 + 20
    for (before, their), (after, now) in pairwise(compositions):
        assert (before == after) or their != now, "nothing is laid out anew without need"
        assert (before != after) or their == now, "who begins to sample is laid out"


def test_who_nobody_listens_to_is_filled_now_and_then() -> None:
    """However many others are in a hurry: it holds its rows, and is to give them back some time."""
    line = Scheduler[int](Pool(), max_rows=20, max_queue=9, max_joins_per_step=9, fill_rows=2)
    unheard, hurried = sequence("u", 90, 9), [sequence(f"h{n}", 90, 80, slack_s=0.0) for n in range(2)]
    for item in (unheard, *hurried):
        line.add(item)
    shared: list[Item] = []
    for turn in range(100):
        plan = line.schedule(turn / 50)
        shared += [item for item, share in plan.filling if share]
        for item in plan.running:
            item.advance(dict(plan.filling).get(item))
    assert (len(shared), shared.count(unheard)) == (100, 9)
    assert not unheard.unfilled_steps


def test_a_step_in_which_all_wait_for_their_sound_says_nothing_about_rows() -> None:
    """It takes next to no time: were it learned from, steps would seem short that are not."""
    pacer = Pacer[int](frame_rate=50)
    line = Scheduler[int](Pool(), max_rows=2, max_queue=9, pacer=pacer, fill_rows=99)
    item = sequence("a", 90, 88, guidance=1.0)
    line.add(item)
    turns = 0
    while item.remaining_steps > 0:
        plan = line.schedule(turns / 50)
        line.observe(plan, turns / 50)
        for each in plan.running:
            each.advance(dict(plan.filling).get(each))
        turns += 1
    assert turns == 90 / KNOWN_FRAMES_PER_TURN
    assert pacer.times.steps == 2 + DELAY, "not the one that encoded its text and was filled, nor the last ones"


def test_the_others_real_time_bounds_it_but_never_to_nothing() -> None:
    pacer = Pacer[int](frame_rate=50)
    heard, unheard = sequence("a", 50, 0, slack_s=0.0), sequence("b", 50, 0)
    assert pacer.room_to_fill(16, [heard]) == 16, "nothing was measured yet"
    for rows in (2, 4, 6, 8) * 8:
        pacer.times.observe(rows, 0.002 * rows)  # nine rows are real time
    assert pacer.room_to_fill(16, [unheard]) == 16
    assert pacer.room_to_fill(16, []) == 16
    assert pacer.room_to_fill(16, [heard]) == 9 - 2
    assert pacer.room_to_fill(3, [heard]) == 3
    assert pacer.room_to_fill(16, [heard] * 4) == 4
