"""What is said to be needed is what is then computed: admission counts every position of every row, in time."""

from __future__ import annotations

import random
from collections.abc import Sequence as SequenceOf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.listener_simulation import CountingPool, Simulation, affine, poisson
from models.engine.demand import exact_needs, is_enough, needs, steps_to_put_by
from models.engine.listener import Listener
from models.engine.pacing import Pacer
from models.engine.scheduler import Scheduler
from models.engine.sequence import Sequence
from models.engine.windows import positions_per_frame, windows_of
from models.engine_config import EngineConfig
from models.types import GenerationRequest, SamplingParams

Item = Sequence[int]
FRAME_RATE, DELAY, LOOKAHEAD = 50, 3, 4
PERIOD_S = 1 / FRAME_RATE


def sequence(
    name: str,
    frames: int,
    known: int = 0,
    *,
    longest: int = 1500,
    stride: int = 900,
    guidance: float = 3.0,
    live: bool = True,
    fill_rows: int = 16,
    lag: int = 0,
    prefix: int = 0,
) -> Item:
    request = GenerationRequest(name, "x", frames / 50, sampling=SamplingParams(guidance=guidance), live=live)
    item = Item(request, frames, DELAY, lag, windows=windows_of(frames, known, longest, stride), prefix=prefix)
    item.fill_share = max(1, fill_rows // item.num_rows)
    if live:
        item.listener = Listener.arriving(EngineConfig(), FRAME_RATE, LOOKAHEAD, 0.0)
    return item


def needs_of(item: Item) -> list[tuple[float, float, int]]:
    assert item.listener is not None
    item.listener.look(0.0, item.steps_until_chunk)
    if not item.has_known_music:
        return needs(item, item.listener.slack_s, PERIOD_S)
    return exact_needs(item, item.listener.slack_s, item.listener.time_left_s, PERIOD_S)


def row_steps(changes: SequenceOf[tuple[float, float, int]]) -> float:
    """All that these needs come to."""
    total, rows, before_s = 0.0, 0, 0.0
    for at_s, due, change in sorted(changes):
        total += rows * (at_s - before_s) + due
        rows, before_s = rows + change, at_s
    assert rows == 0
    return total / PERIOD_S


class Whim(Pacer[int]):
    """Pauses anybody."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(FRAME_RATE)
        self._chance = chance

    def choose(self, held: SequenceOf[Item], joined: SequenceOf[Item], now_s: float) -> SequenceOf[Item]:
        return [each for each in held if each in joined or self._chance.random() < 0.7] or held[:1]


def random_item(name: str, chance: random.Random, fill_rows: int) -> Item:
    """Plain text, a melody, a continuation or several windows."""
    longest = chance.randint(10, 60)
    known = chance.choice([0, 0, chance.randint(1, longest)])
    return sequence(
        name,
        known + chance.randint(1, chance.choice([longest, 4 * longest])),
        known,
        longest=longest,
        stride=chance.randint(longest // 2, longest - 1),
        guidance=chance.choice([1.0, 3.0]),
        live=chance.random() < 0.7,
        fill_rows=fill_rows,
        lag=chance.randint(0, 2),
        prefix=chance.choice([0, 0, chance.randint(1, 40)]),
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), fill_rows=st.integers(2, 20))
def test_what_is_foretold_is_what_is_computed(seed: int, fill_rows: int) -> None:
    """Of every crowd, at every step, whoever pauses and however little of a step is there for known music."""
    chance = random.Random(seed)
    line = Scheduler[int](CountingPool(), max_rows=12, max_queue=99, pacer=Whim(chance), fill_rows=fill_rows)
    items = [random_item(str(index), chance, fill_rows) for index in range(chance.randint(1, 9))]
    foretold = {item.request_id: item.remaining_row_steps for item in items}
    for item in items:
        line.add(item)
        if item.listener is not None:
            assert row_steps(needs_of(item)) >= foretold[item.request_id] - 1e-6
    computed = dict.fromkeys(foretold, 0)
    while line.has_work:
        before, plan = line.outstanding_row_steps, line.schedule(0.0)
        filled = {item.request_id: share for item, share in plan.filling}
        made = {each.request_id: each.num_rows for each in plan.running if each.is_sampling}
        made |= {each.request_id: share * each.num_rows for each, share in plan.filling}
        for each in plan.running:
            computed[each.request_id] += made.get(each.request_id, 0)
            complete = each.frames_after(each.step + 1 - each.lag)
            each.advance(filled.get(each.request_id))
            if each.listener is not None and complete >= each.listener.codes_wanted:
                each.listener.hand_over(complete - LOOKAHEAD - each.listener.sent, 0.0, is_last=False)
            left = foretold[each.request_id] - computed[each.request_id]
            assert each.remaining_row_steps == left
            if complete == each.frames:
                assert left == 0
                line.remove(each.request_id)
            elif each.listener is not None:
                assert row_steps(needs_of(each)) >= left - 1e-6
        assert line.outstanding_row_steps == before - sum(made.values())
    assert computed == foretold


def test_an_overlap_is_due_when_its_window_begins() -> None:
    """A minute: 1500 frames, then 600 known positions of two rows before the next frame is made, and again."""
    item = sequence("minute", 3000)
    assert item.remaining_row_steps == 2 * (1503 + 1503 + 1203)
    due = [(round(at_s, 2), round(work / PERIOD_S)) for at_s, work, _ in needs_of(item) if work]
    assert item.listener is not None
    begin_s = item.listener.slack_s
    assert due == [(round(begin_s + 30, 2), 2 * 603), (round(begin_s + 48, 2), 2 * 603)]
    assert needs_of(item)[-1][0] == pytest.approx(begin_s + 60 + DELAY * PERIOD_S)


def test_music_to_go_on_from_is_due_when_it_has_been_heard() -> None:
    item = sequence("on", 1000, 500)
    assert row_steps(needs_of(item)) == pytest.approx(2 * 1003)
    at_once = sum(work for _, work, _ in needs_of(item)) / PERIOD_S
    assert at_once <= 2 * 20, "it is heard while it is worked through"


def test_a_melody_is_due_again_in_every_window_and_delays_nobody_at_its_beginning() -> None:
    """240 positions before the music of either window."""
    item = sequence("tune", 2000, prefix=240)
    assert item.remaining_row_steps == 2 * (240 + 1503 + 240 + 1103)
    assert positions_per_frame(item.windows, DELAY, 240) == pytest.approx((240 + 1503 + 240 + 600) / (240 + 1500))
    beside = [begun(str(n), 1400, 100) for n in range(12)]
    assert pacer(32).can_carry(beside, sequence("one window", 1500, prefix=240), 0.0)


def test_positions_of_a_frame() -> None:
    assert positions_per_frame(windows_of(1500, 0, 1500, 900), DELAY) == 1
    assert positions_per_frame(windows_of(3000, 0, 1500, 900), DELAY) == pytest.approx((1503 + 603 + 900 + 600) / 2400)
    assert positions_per_frame(windows_of(100, 0, 50, 1), DELAY) > 10


def test_enough_is_known_where_work_is_due() -> None:
    assert is_enough(2, [(0.0, 0.0, 2), (5.0, 0.0, -2)])
    assert not is_enough(2, [(0.0, 0.0, 2), (3.0, 1.0, 0), (5.0, 0.0, -2)])
    assert is_enough(3, [(0.0, 0.0, 2), (3.0, 3.0, 0), (5.0, 0.0, -2)])


# ------------------------------------------------------------------------------------------------------- admission


def pacer(real_time_rows: int) -> Pacer[int]:
    """Of a machine that keeps so many rows in real time."""
    made = Pacer[int](FRAME_RATE)
    for rows in (2, real_time_rows, 2 * real_time_rows) * 30:
        made.times.observe(rows, PERIOD_S * rows / real_time_rows)
    assert made.real_time_rows == real_time_rows
    return made


def begun(name: str, frames: int, heard: int) -> Item:
    """A track in its first window, exactly as far as its listener needs."""
    item = sequence(name, frames)
    assert item.listener is not None
    item.listener.sent, item.listener.is_playing = heard, True
    item.listener.starts_s, item.listener.policy._next = 0.5 - heard / FRAME_RATE, 25
    item.step = heard + LOOKAHEAD + DELAY
    return item


def test_long_tracks_are_carried_only_with_their_overlaps() -> None:
    """32 rows are 16 listeners of a window, but not of three: their overlaps are half of the work again."""
    machine = pacer(32)
    assert machine.can_carry([begun(str(n), 1400, 100) for n in range(15)], sequence("new", 1500), 0.0)
    assert not machine.can_carry([begun(str(n), 6000, 100) for n in range(15)], sequence("new", 6000), 0.0)
    assert not machine.can_carry([begun(str(n), 6000, 100) for n in range(10)], sequence("new", 6000), 0.0)
    assert machine.can_carry([begun(str(n), 6000, 100) for n in range(6)], sequence("new", 6000), 0.0)
    assert not machine.can_carry([begun(str(n), 6000, 100) for n in range(10)], sequence("new", 1500), 0.0)


def test_overlaps_beyond_the_machine_keep_nobody_waiting() -> None:
    """A stride of a frame: 1500 positions for each. It stalls whatever is done, and the others come in beside it."""
    machine, hopeless = pacer(6), sequence("long", 3000, stride=1)
    assert machine.can_carry([], hopeless, 0.0)
    assert machine.can_carry([hopeless], sequence("new", 500), 0.0)
    assert machine.can_carry([sequence("plain", 500)], hopeless, 0.0)


@settings(max_examples=30, deadline=None)
@given(known=st.integers(0, 1500), frames=st.integers(1501, 9000), stride=st.integers(1, 1499))
def test_nobody_waits_for_who_is_not_there(known: int, frames: int, stride: int) -> None:
    """Without another listener anybody starts; beside one that is nearly made, whoever the machine keeps at all."""
    item, machine = sequence("new", frames, known, stride=stride), pacer(100)
    assert machine.can_carry([sequence("file", 9000, live=False)], item, 0.0)
    if 2 * item.positions_per_frame <= 90 or 2 * item.positions_per_frame > 100:
        assert machine.can_carry([begun("last", 200, 170)], item, 0.0)


def test_a_track_gets_ahead_before_its_next_window() -> None:
    """75 steps of 16 rows and the delay of three, while its listener hears on."""
    item = sequence("minute", 3000)
    listener = item.listener
    assert listener is not None
    ahead = []
    for heard in (100, 900, 1200, 1400, 1500 - listener.policy.frames - LOOKAHEAD):
        listener.sent, item.step = heard, heard + LOOKAHEAD + DELAY
        ahead.append(steps_to_put_by(item))
    assert ahead[0] == 0
    assert ahead == sorted(ahead)
    assert ahead[-1] == 75 + DELAY
    listener.sent += 1
    assert steps_to_put_by(item) == 0, "its next chunk ends beyond: there they are counted"
    assert steps_to_put_by(begun("one window", 1500, 1400)) == 0


def test_listeners_of_long_tracks_are_not_let_in_to_stall() -> None:
    """More come than the machine carries: they wait, and who has begun hears on. (Without the overlaps in the count the
    longest silence is a minute.)"""
    simulation = Simulation(affine(0.008, 0.000375), max_rows=64, pauses=True)
    players = simulation.run(poisson(0.25, 120.0, (60.0, 90.0), seed=3))
    assert len(players) > 20
    assert max(player.stall_s for player in players) < 2
