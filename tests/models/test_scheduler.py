"""The scheduler keeps its promises for any arrival order, without a tensor in sight."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence as SequenceOf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engine.scheduler import Scheduler
from models.engine.sequence import Sequence, State
from models.types import GenerationRequest, SamplingParams

DELAY = 3


class IntervalPool:
    """KV positions as plain intervals, first fit: enough of a pool for a scheduler."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken: list[tuple[int, int]] = []

    @property
    def free_positions(self) -> int:
        return self.total - sum(end - start for start, end in self.taken)

    def _place(self, length: int, taken: list[tuple[int, int]]) -> tuple[int, int] | None:
        cursor = 0
        for start, end in sorted(taken):
            if start - cursor >= length:
                break
            cursor = end
        return (cursor, cursor + length) if cursor + length <= self.total else None

    def can_allocate(self, positions: SequenceOf[int]) -> bool:
        taken = list(self.taken)
        for length in positions:
            place = self._place(length, taken)
            if place is None:
                return False
            taken.append(place)
        return True

    def allocate(self, positions: int) -> tuple[int, int]:
        place = self._place(positions, self.taken)
        assert place is not None
        self.taken.append(place)
        return place

    def free(self, handle: tuple[int, int]) -> None:
        self.taken.remove(handle)


Line = Scheduler[tuple[int, int]]
Item = Sequence[tuple[int, int]]


def sequence(name: str, frames: int = 10, guidance: float = 3.0, prompt: str = "a prompt") -> Item:
    request = GenerationRequest(name, prompt, frames / 50, sampling=SamplingParams(guidance=guidance))
    return Sequence(request, frames, DELAY)


def scheduler(max_rows: int = 4, total: int = 1000, max_queue: int = 100, joins: int = 100) -> Line:
    return Scheduler(IntervalPool(total), max_rows=max_rows, max_queue=max_queue, max_joins_per_step=joins)


def names(sequences: SequenceOf[Item]) -> list[str]:
    return [each.request_id for each in sequences]


def advance(line: Line) -> list[str]:
    """One step as the engine does it; the names of those that ran."""
    plan = line.schedule(0.0)
    for each in plan.running:
        each.step += 1
        if each.remaining_steps == 0:
            line.remove(each.request_id)
    line.check_integrity()
    return names(plan.running)


def test_a_guided_request_takes_two_rows_and_everything_else_one() -> None:
    assert sequence("a").num_rows == 2
    assert sequence("b", guidance=1.0).num_rows == 1
    assert sequence("c", guidance=0.5).num_rows == 1
    assert sequence("d", prompt="").num_rows == 1, "no prompt: there is nothing to compare with the null row"
    assert sequence("e", prompt=" ").num_rows == 2, "a blank is a real prompt"


def test_steps_and_frames_follow_the_delay_pattern() -> None:
    item = sequence("a", frames=10)
    assert item.num_steps == 13
    assert item.positions == (13, 13)
    assert [item.frames_after(step) for step in (0, 3, 4, 8, 13)] == [0, 0, 1, 5, 10]


def test_the_pair_is_never_split() -> None:
    line = scheduler(max_rows=3)
    line.add(sequence("a"))
    line.add(sequence("b"))
    plan = line.schedule(0.0)
    assert names(plan.running) == ["a"], "one row is free, but b needs two"
    assert line.free_rows == 1
    assert len(plan.running[0].rows) == 2


def test_first_come_first_served_without_overtaking() -> None:
    line = scheduler(max_rows=3)
    for item in (sequence("a"), sequence("big"), sequence("small", guidance=1.0)):
        line.add(item)
    assert names(line.schedule(0.0).running) == ["a"], "small would fit, but big came first"
    line.remove("a")
    assert names(line.schedule(0.0).running) == ["big", "small"]


def test_joins_per_step_are_bounded() -> None:
    line = scheduler(joins=1)
    line.add(sequence("a"))
    line.add(sequence("b"))
    assert names(line.schedule(0.0).joined) == ["a"]
    plan = line.schedule(0.0)
    assert (names(plan.joined), names(plan.running)) == (["b"], ["a", "b"])


def test_composition_changes_exactly_when_the_batch_does() -> None:
    line = scheduler()
    line.add(sequence("a"))
    first = line.schedule(0.0).composition
    assert line.schedule(0.0).composition == first
    line.add(sequence("b"))
    second = line.schedule(0.0).composition
    assert second != first
    line.remove("a")
    assert line.schedule(0.0).composition != second


def test_positions_are_reserved_exactly() -> None:
    line = scheduler(max_rows=8, total=2 * 13 + 2 * 23)
    line.add(sequence("a", frames=10))
    line.add(sequence("b", frames=20))
    assert names(line.schedule(0.0).running) == ["a", "b"], "13 and 23 positions, twice each, and not one to spare"
    line.add(sequence("c", frames=1))
    assert names(line.schedule(0.0).joined) == []


def test_a_request_that_can_never_run_is_known_at_the_door() -> None:
    assert not scheduler(max_rows=1).can_ever_run(sequence("pair"))
    assert scheduler(max_rows=1).can_ever_run(sequence("single", guidance=1.0))
    assert not scheduler(total=25).can_ever_run(sequence("long", frames=10))
    assert scheduler(total=26).can_ever_run(sequence("just", frames=10))


def test_the_line_is_bounded_beyond_those_who_can_start_at_once() -> None:
    line = scheduler(max_rows=4, max_queue=1)
    for name in ("a", "b", "c"):  # a and b can start, c waits
        assert line.has_room(sequence(name))
        line.add(sequence(name))
    assert not line.has_room(sequence("d"))
    line.schedule(0.0)
    assert line.num_waiting == 1
    assert not line.has_room(sequence("d"))
    line.remove("c")
    assert line.has_room(sequence("d"))


def test_no_queue_at_all_still_serves() -> None:
    line = scheduler(max_rows=2, max_queue=0)
    assert line.has_room(sequence("a"))
    line.add(sequence("a"))
    assert not line.has_room(sequence("b"))


def test_steps_until_room_is_exact_when_rows_decide() -> None:
    line = scheduler(max_rows=4)
    for name, frames in (("a", 5), ("b", 9), ("c", 5)):
        line.add(sequence(name, frames=frames))
    line.schedule(0.0)
    predicted = line.steps_until_room()
    steps = 0
    while line.num_waiting:
        advance(line)
        steps += 1
    assert steps == predicted + 1, "the step after the one that freed the rows lets c in"


def test_removing_what_is_not_there_is_not_an_error() -> None:
    line = scheduler()
    assert line.remove("nobody") is None
    line.add(sequence("a"))
    assert "a" in line
    removed = line.remove("a")
    assert removed is not None
    assert removed.state is State.DONE
    assert "a" not in line
    assert not line.has_work


arrivals = st.lists(
    st.tuples(
        st.integers(0, 12),  # arrives before this step
        st.integers(1, 9),  # frames
        st.sampled_from([1.0, 3.0]),  # guidance
        st.none() | st.integers(0, 15),  # aborted before this step
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(arrivals=arrivals, max_rows=st.integers(2, 6), total=st.integers(24, 80), joins=st.integers(1, 3))
def test_any_traffic_is_served_in_order_and_leaves_no_trace(
    arrivals: list[tuple[int, int, float, int | None]], max_rows: int, total: int, joins: int
) -> None:
    pool = IntervalPool(total)
    line: Line = Scheduler(pool, max_rows=max_rows, max_queue=100, max_joins_per_step=joins)
    started: list[str] = []
    added: list[str] = []
    step = 0
    while step <= 16 or line.has_work:
        for index, (arrival, frames, guidance, abort) in enumerate(arrivals):
            if arrival == step:
                line.add(sequence(str(index), frames, guidance))
                added.append(str(index))
            if abort == step:
                line.remove(str(index))
        plan = line.schedule(0.0)
        started += names(plan.joined)
        for each in plan.running:
            assert len(each.rows) == each.num_rows, "a pair was split"
            assert len(set(each.rows)) == each.num_rows
            each.step += 1
            if each.remaining_steps == 0:
                line.remove(each.request_id)
        line.check_integrity()
        step += 1
        assert step < 2000, "somebody starves"
    assert started == [name for name in added if name in started], "somebody overtook"
    assert pool.taken == []
    assert line.free_rows == max_rows


@pytest.mark.parametrize("module", ["scheduler", "sequence", "step", "stats"])
def test_no_torch_is_loaded(module: str) -> None:
    code = f"import sys, models.engine.{module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
