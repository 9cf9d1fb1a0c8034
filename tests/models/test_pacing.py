"""Who pauses, on the scheduler alone: nobody without need, no listener who could be served, no one for ever."""

from __future__ import annotations

import random
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from benchmarks.listener_simulation import DELAY, FRAME_RATE, LOOKAHEAD, Arrival, CountingPool, Simulation, affine
from models.engine.listener import Listener
from models.engine.pacing import QUANTUM_STEPS, UNHEARD_SHARE, Pacer
from models.engine.scheduler import Scheduler
from models.engine.sequence import Sequence, State
from models.engine_config import EngineConfig
from models.types import GenerationRequest, SamplingParams

Item = Sequence[int]
STEADY = EngineConfig(first_chunk_s=0.5, max_chunk_s=0.5, chunk_growth=1.0, prebuffer_s=0.0)
LEVEL_S, ROW_S = 0.008, 0.000375  # 32 rows in real time
MACHINE = affine(LEVEL_S, ROW_S)


def sequence(name: str, frames: int = 500, live: bool = True, guidance: float = 3.0) -> Item:
    sampling = SamplingParams(guidance=guidance)
    item = Item(GenerationRequest(name, "a tune", frames / FRAME_RATE, 0, sampling, live=live), frames, DELAY)
    if live:
        item.listener = Listener.arriving(STEADY, FRAME_RATE, LOOKAHEAD, 0.0)
    return item


def playing(name: str, lead_s: float, frames: int = 500, begun: int = 100, guidance: float = 3.0) -> Item:
    """A track with its chunks up to ``begun`` frames handed over, all of it heard but the last ``lead_s`` at time 0."""
    item = sequence(name, frames, guidance=guidance)
    assert item.listener is not None
    item.listener.sent, item.listener.is_playing = begun, True
    item.listener.starts_s = lead_s - begun / FRAME_RATE
    item.step = begun + LOOKAHEAD + DELAY
    return item


def pacer(rows: SequenceOf[int] = (2, 16, 32, 48), level_s: float = LEVEL_S, row_s: float = ROW_S) -> Pacer[int]:
    """One that has measured this machine."""
    made = Pacer[int](FRAME_RATE)
    for each in list(rows) * 100:
        made.times.observe(each, level_s + row_s * each)
    return made


def line_of(items: SequenceOf[Item], max_rows: int = 64) -> Scheduler[int]:
    """All of them let in, at time 0, by a pacer that knows the machine only then: no step is made."""
    line = Scheduler[int](CountingPool(), max_rows=max_rows, max_queue=100, max_joins_per_step=100, pacer=Pacer(50))
    for item in items:
        line.add(item)
    line.schedule(0.0)
    line._pacer = pacer()
    line._must_choose = True
    return line


def names(items: SequenceOf[Item]) -> list[str]:
    return sorted(item.request_id for item in items)


def rows_of(items: SequenceOf[Item]) -> int:
    return sum(item.num_rows for item in items)


def step(line: Scheduler[int], now_s: float) -> tuple[float, tuple[Item, ...]]:
    """One step on the machine; chunks are handed over. The time after it and who ran."""
    plan = line.schedule(now_s)
    now_s += MACHINE(rows_of(plan.running))
    line.observe(plan, now_s)
    for item in plan.running:
        assert item.state is State.RUNNING
        item.step += 1
        if item.listener is not None and item.steps_until_chunk == 0:
            is_last = item.remaining_steps == 0
            frames = item.frames - item.listener.sent if is_last else item.listener.policy.frames
            assert item.listener.hand_over(frames, now_s, is_last=is_last) <= 1e-9, f"{item.request_id} stalls"
        if item.remaining_steps == 0:
            line.remove(item.request_id)
    line.check_integrity()
    return now_s, plan.running


# ------------------------------------------------------------------------------------------- nobody without need


@settings(max_examples=60, deadline=None)
@given(
    leads=st.lists(st.floats(-5, 30), min_size=1, max_size=32),
    unheard=st.integers(0, 8),
    level_s=st.floats(0.0005, 0.004),
)
def test_nobody_pauses_while_a_step_of_all_takes_half_of_real_time(
    leads: list[float], unheard: int, level_s: float
) -> None:
    items = [playing(str(i), lead) for i, lead in enumerate(leads)]
    items += [sequence(f"file {i}", live=False) for i in range(unheard)]
    fast = pacer(level_s=level_s, row_s=(0.0099 - level_s) / 80)
    assert fast.choose(items, (), 0.0) is items


@settings(max_examples=60, deadline=None)
@given(leads=st.lists(st.floats(0.7, 30), min_size=1, max_size=21))
def test_nobody_pauses_while_every_next_chunk_is_in_time(leads: list[float]) -> None:
    """42 rows take 23.8 ms, more than real time; 25 steps to the next chunk, due in 0.7 s, may take 28 ms each."""
    items = [playing(str(i), lead) for i, lead in enumerate(leads)]
    assert pacer().choose(items, (), 0.0) is items


def test_nobody_pauses_when_nobody_listens() -> None:
    items = [sequence(str(i), live=False) for i in range(30)]
    assert pacer().choose(items, (), 0.0) is items


def test_nobody_pauses_before_a_step_was_measured() -> None:
    items = [playing(str(i), 0.0) for i in range(30)]
    assert Pacer[int](FRAME_RATE).choose(items, (), 0.0) is items


def test_nobody_pauses_on_a_machine_that_could_not_serve_one() -> None:
    items = [playing(str(i), 0.5) for i in range(4)]
    slow = pacer(rows=(2, 4, 8), level_s=0.1, row_s=0.01)
    assert slow.choose(items, (), 0.0) is items
    assert slow.can_carry(items, sequence("new"), 0.0), "nor does anybody wait in vain"


# ------------------------------------------------------------------------------------------------- who pauses


def test_those_far_ahead_pause_and_those_about_to_stall_run() -> None:
    items = [playing(f"ahead {i}", 10.0 + i) for i in range(12)] + [playing(f"tight {i}", 0.51) for i in range(8)]
    chosen = pacer().choose(items, (), 0.0)
    assert {f"tight {i}" for i in range(8)} <= set(names(chosen))
    assert rows_of(chosen) < rows_of(items)
    assert "ahead 11" not in names(chosen)
    assert MACHINE(rows_of(chosen)) <= 0.51 / 25


def test_who_nobody_listens_to_pauses_first() -> None:
    items = [sequence(f"file {i}", live=False) for i in range(10)] + [playing(str(i), 0.55) for i in range(12)]
    chosen = names(pacer().choose(items, (), 0.0))
    assert {str(i) for i in range(12)} <= set(chosen)
    assert 12 < len(chosen) < 22, "some fill the slack"
    assert chosen[12:] == [f"file {i}" for i in range(len(chosen) - 12)], "in order of arrival"


def test_a_start_may_be_late_where_music_that_plays_would_stop() -> None:
    late = [sequence(f"new {i}") for i in range(6)]
    items = [*late, *(playing(str(i), 0.5) for i in range(16))]
    chosen = pacer().choose(items, (), 1.2)
    assert not set(names(late)) & set(names(chosen))
    assert rows_of(chosen) == 32


def test_newcomers_take_part_in_their_first_step() -> None:
    new = [sequence("new"), sequence("new file", live=False)]
    items = [*(playing(str(i), 0.5) for i in range(20)), *new]
    assert {"new", "new file"} <= set(names(pacer().choose(items, new, 0.0)))


@settings(max_examples=60, deadline=None)
@given(
    leads=st.lists(st.integers(-100, 1000), min_size=2, max_size=30, unique=True),
    guided=st.randoms(use_true_random=False),
)
def test_the_choice_does_not_depend_on_the_order(leads: list[int], guided: random.Random) -> None:
    items = [playing(str(i), lead / 50, guidance=guided.choice([1.0, 3.0])) for i, lead in enumerate(leads)]
    shuffled = guided.sample(items, len(items))
    one, other = pacer().choose(items, (), 0.0), pacer().choose(shuffled, (), 0.0)
    assert set(one) == set(other)
    assert [item for item in shuffled if item in set(other)] == list(other), "those who run keep their order"


# ------------------------------------------------------------------------- who can be served is served


@dataclass(slots=True, eq=False)
class _Chunk:
    """The next chunk of a track: when it is due and how far it is."""

    deadline_s: float
    steps: int
    sent: int
    item: Item


def edf_serves(items: SequenceOf[Item], margin_s: float) -> bool:
    """The reference: every step runs the 32 rows of real time, earliest deadline first; all are nearer by a margin."""
    todo = [
        _Chunk(item.listener.deadline_s, item.steps_until_chunk, item.listener.sent, item)
        for item in items
        if item.listener is not None
    ]
    now_s = 0.0
    while todo:
        todo.sort(key=lambda chunk: chunk.deadline_s)
        running = todo[:16]
        now_s += MACHINE(2 * len(running))
        for chunk in running:
            chunk.steps -= 1
            if chunk.steps:
                continue
            if now_s > chunk.deadline_s - margin_s:
                return False
            chunk.deadline_s, chunk.sent = chunk.deadline_s + 0.5, chunk.sent + 25
            chunk.steps = min(25 + LOOKAHEAD, chunk.item.frames - chunk.sent) - LOOKAHEAD
            if chunk.steps <= 0:
                todo.remove(chunk)
    return True


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    leads=st.lists(st.floats(1.2, 1.6) | st.floats(5.0, 12.0), min_size=20, max_size=28),
    frames=st.lists(st.integers(12, 30), min_size=28, max_size=28),
)
def test_whoever_a_feasible_schedule_serves_hears_no_silence(leads: list[float], frames: list[int]) -> None:
    """Where earliest deadline first has two quanta to spare (a choice holds for one), nobody stalls here."""
    items = [playing(str(i), lead, frames=25 * frames[i]) for i, lead in enumerate(leads)]
    assume(edf_serves(items, margin_s=2 * QUANTUM_STEPS / FRAME_RATE))
    line, now_s = line_of(items), 0.0
    while line.has_work:
        now_s, _ = step(line, now_s)


# --------------------------------------------------------------------------------------------- nobody for ever


@pytest.mark.parametrize("unheard", [1, 7, 19])
def test_a_track_that_nobody_hears_gets_its_share(unheard: int) -> None:
    """Listeners come without end, more than there is room for, and each file still gets its tenth of the steps."""
    files = [sequence(f"file {i}", frames=200, live=False) for i in range(unheard)]
    chooser, counted = pacer(), 0
    chooser.can_carry = lambda held, newcomer, now_s: True  # type: ignore[method-assign] # overload let in
    line = Scheduler[int](CountingPool(), max_rows=100, max_queue=10**6, max_joins_per_step=100, pacer=chooser)
    for item in files:
        line.add(item)
    now_s, coming = 0.0, 0
    while any(item.state is not State.DONE for item in files):
        while line.num_running < 30 + sum(item.state is not State.DONE for item in files):
            line.add(playing(f"listener {coming}", 0.5, frames=300))
            coming += 1
            line._waiting[-1].listener.starts_s += now_s  # type: ignore[union-attr]
            line.schedule(now_s)
        plan = line.schedule(now_s)
        now_s, counted = now_s + MACHINE(rows_of(plan.running)), counted + 1
        for item in plan.running:
            item.step += 1
            if item.remaining_steps == 0:
                line.remove(item.request_id)
        bound = UNHEARD_SHARE * counted - 2 * QUANTUM_STEPS / 0.8
        assert all(item.step >= 0.8 * bound for item in files if item.state is not State.DONE)
        assert counted < 20_000


@settings(max_examples=15, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(st.floats(0, 8), st.sampled_from([0.3, 2.0, 6.0]), st.booleans()), min_size=1, max_size=40
    )
)
def test_everybody_gets_their_music_in_the_end(arrivals: list[tuple[float, float, bool]]) -> None:
    simulation = Simulation(affine(0.012, 0.001), max_rows=24, pauses=True)
    players = simulation.run([Arrival(*each) for each in arrivals])
    assert all(player.done_s is not None for player in players)


# ------------------------------------------------------------------------------------------ places and arithmetic


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_pausing_keeps_every_promise_of_the_line(data: st.DataObject) -> None:
    """Rows are never exceeded, pairs never split, a paused track keeps all it holds, an aborted one gives it back."""
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    pool = CountingPool()
    line = Scheduler[int](pool, max_rows=44, max_queue=100, pacer=pacer())
    now_s = 0.0
    held: dict[str, tuple[tuple[int, ...], int]] = {}
    for turn in range(120):
        if chance.random() < 0.4:
            guidance, live = chance.choice([1.0, 3.0]), chance.random() < 0.7
            line.add(sequence(str(turn), chance.randint(1, 200), live=live, guidance=guidance))
        if line._held and chance.random() < 0.1:
            victim = chance.choice(list(line._held.values()))
            free = line.free_rows
            line.remove(victim.request_id)
            assert (line.free_rows, victim.rows) == (free + victim.num_rows, ())
        plan = line.schedule(now_s)
        assert set(plan.joined) <= set(plan.running)
        assert rows_of(plan.running) + line.paused_rows + line.free_rows == 44
        for item in line._held.values():
            assert len(item.rows) == item.num_rows
            assert held.setdefault(item.request_id, (item.rows, item.slot)) == (item.rows, item.slot)
        now_s += MACHINE(rows_of(plan.running))
        line.observe(plan, now_s)
        for item in plan.running:
            item.step += 1
            if item.listener is not None and item.steps_until_chunk == 0:
                item.listener.hand_over(25, now_s, is_last=item.remaining_steps == 0)
            if item.remaining_steps == 0:
                line.remove(item.request_id)
        line.check_integrity()


def test_the_batch_stays_as_it_is_for_a_quantum() -> None:
    line, now_s, changes, before = line_of([playing(str(i), 2.0 + 0.1 * i) for i in range(20)]), 0.0, 0, -1
    for _ in range(10 * QUANTUM_STEPS):
        plan = line.schedule(now_s)
        changes, before = changes + (plan.composition != before), plan.composition
        now_s += MACHINE(rows_of(plan.running))
        for item in plan.running:
            item.step += 1
    assert changes <= 10
    assert line.paused_rows > 0


def test_a_newcomer_waits_until_the_machine_can_carry_it() -> None:
    full = [playing(str(i), 0.5) for i in range(16)]
    assert not pacer().can_carry(full, sequence("new"), 0.0)
    assert pacer().can_carry(full[:15], sequence("new"), 0.0)
    assert pacer().can_carry(full, sequence("file", live=False), 0.0), "it fills what is left"
    ahead = [playing(str(i), 9.0) for i in range(20)]
    assert pacer().can_carry(ahead, sequence("new", frames=100), 0.0), "those ahead can wait for so short a track"


def test_steps_until_room_is_an_upper_bound_when_rows_pause() -> None:
    items = [playing(str(i), 0.52 + 0.1 * i, frames=250 + 25 * (i % 3)) for i in range(20)]
    line, now_s = line_of(items, max_rows=40), 0.0
    now_s, _ = step(line, now_s)
    assert line.paused_rows > 0
    line.add(sequence("file", live=False))
    predicted, steps = line.steps_until_room(), 0
    while line.num_waiting:
        now_s, _ = step(line, now_s)
        steps += 1
    assert steps <= predicted + 1
