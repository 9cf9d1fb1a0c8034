"""Who takes part in the next step. Plain Python on plain numbers: no tensors, no clock but the time passed in.

A request is one atomic slot of 1 to 3 rows. It waits in line (first come, first served, nobody overtakes), joins when
its rows and all the KV positions it will ever need are free, and keeps them until it is done. Since lengths are known
at the door, there is nothing to evict or to guess. When not everybody can be in the step and in time for the
listeners, some pause in place: they keep all they hold and go on later where they were (see ``pacing``). Tokens depend
on a request's own past and random numbers only, so pausing changes none.

Music that is known before (what a track goes on from, the overlap of two windows) is worked through beside the rows
that sample, a bounded number of positions in each step, so that it makes no step long.
"""

from __future__ import annotations

from collections import deque
from typing import Generic

from models.engine.filling import shares
from models.engine.forecast import endings
from models.engine.pacing import QUANTUM_STEPS, UNHEARD_SHARE, Pacer
from models.engine.places import Places, RowPool
from models.engine.sequence import Row, Sequence, State
from models.engine.step import StepPlan


class Scheduler(Generic[Row]):
    """The line, who is let in from it, and who of those takes part in a step."""

    def __init__(
        self,
        pool: RowPool[Row],
        *,
        max_rows: int,
        max_queue: int,
        max_joins_per_step: int = 1,
        pacer: Pacer[Row] | None = None,
        fill_rows: int = 16,
    ) -> None:
        """
        Args:
            pool: KV positions.
            max_rows: rows that may be held, by those in the step and those paused.
            max_queue: requests that may wait beyond those that could start at once.
            max_joins_per_step: each join costs a text encoding inside the step, which the others wait for.
            pacer: chooses who pauses; without one nobody ever does.
            fill_rows: most rows of a step, one for each position, that work through known music.
        """
        self._places = Places(pool, max_rows)
        self._held = self._places.held
        self._max_queue = max_queue
        self._max_joins = max_joins_per_step
        self._pacer = pacer
        self._fill_rows = fill_rows
        self._waiting: deque[Sequence[Row]] = deque()
        self._plan: StepPlan[Row] = StepPlan((), (), 0)
        self._active_rows = 0  # of the plan
        self._may_fill = False  # somebody in the plan has known music
        self._sampling: tuple[Sequence[Row], ...] = ()  # of the plan, if so
        self._shared_steps = 0  # in which somebody was filled
        self._steps_since_choice = 0
        self._must_choose = False  # somebody left since
        self._refused: Sequence[Row] | None = None  # the head of the line that could not be carried at the latest try
        self._now_s = 0.0  # of the latest step

    # ------------------------------------------------------------------------------------------------ the verbs

    def can_ever_run(self, sequence: Sequence[Row]) -> bool:
        """Whether an empty engine could hold it."""
        return self._places.can_ever_hold(sequence)

    def has_room(self, sequence: Sequence[Row]) -> bool:
        """Whether it may join the line: no more than ``max_queue`` are in it who could not start at once."""
        rows, positions = self.free_rows, self._places.free_positions
        line = [*self._waiting, sequence]
        for place, each in enumerate(line):
            rows, positions = rows - each.num_rows, positions - sum(each.positions)
            if rows < 0 or positions < 0:
                return len(line) - place <= self._max_queue
        return True

    def add(self, sequence: Sequence[Row]) -> None:
        """Put a request at the end of the line."""
        self._waiting.append(sequence)

    def schedule(self, now_s: float) -> StepPlan[Row]:
        """Let the head of the line in while there is room, and say who steps.

        Args:
            now_s: of any clock that never goes back.
        """
        self._now_s = now_s
        joined = self._let_in()
        if joined or self._is_choice_due:
            self._choose(joined)
        elif self._plan.joined:
            self._plan = StepPlan(self._plan.running, (), self._plan.composition)
        if self._may_fill:
            self._share_out()
        assert self._plan.running or not self._waiting, "an empty engine can not start the line's head: this is a bug"
        self._steps_since_choice += 1
        return self._plan

    def observe(self, plan: StepPlan[Row], now_s: float) -> None:
        """The planned step is done: learn how long it took. Steps that encoded a text say nothing about rows, nor do
        those in which everybody only waited for sound."""
        if self._pacer is None or plan.joined:
            return
        sampled = sum(each.num_rows for each in self._sampling) if self._may_fill else self._active_rows
        if sampled or plan.filling:
            self._pacer.times.observe(sampled + plan.filled_rows, now_s - self._now_s)

    def remove(self, request_id: str) -> Sequence[Row] | None:
        """Take a request out, wherever it is, and give back all it holds. None if it is not here."""
        sequence = self._places.give_back(request_id)
        if sequence is not None:
            self._must_choose = True
            return sequence
        for waiting in self._waiting:
            if waiting.request_id == request_id:
                self._waiting.remove(waiting)
                waiting.state = State.DONE
                return waiting
        return None

    # --------------------------------------------------------------------------------------------- what is where

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._held or any(each.request_id == request_id for each in self._waiting)

    @property
    def has_work(self) -> bool:
        return bool(self._held or self._waiting)

    @property
    def num_running(self) -> int:
        """Those that hold rows, paused or not."""
        return len(self._held)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def paused_rows(self) -> int:
        return sum(each.num_rows for each in self._held.values() if each.state is State.PAUSED)

    @property
    def free_rows(self) -> int:
        """Rows that nobody holds."""
        return self._places.free_rows

    @property
    def outstanding_row_steps(self) -> int:
        """Work accepted and not done yet, in rows × steps: as many as steps will be made with rows in them."""
        return sum(each.remaining_row_steps for each in (*self._held.values(), *self._waiting))

    def steps_until_room(self) -> int:
        """Steps until the head of the line starts and the line is one shorter.

        Exact while nobody pauses, otherwise the most it takes, see `endings`. (A head that has its rows and waits until
        its listener can be carried is taken to start when the next track ends.)
        """
        if not self._waiting:
            return 0
        head, rows, positions, steps = self._waiting[0], self.free_rows, self._places.free_positions, 0
        for left, each in endings(self._held.values(), self._pacer, self._active_rows, self._now_s):
            if head.num_rows <= rows and sum(head.positions) <= positions and (steps or self._carries(head)):
                break
            rows, positions, steps = rows + each.num_rows, positions + sum(each.positions), left
        return steps

    def check_integrity(self) -> None:
        """Raise AssertionError if a place is lost or taken twice. This would be a bug."""
        self._places.check_integrity()
        for each in self._plan.running:
            assert each.state in (State.RUNNING, State.DONE), f"{each.request_id} is in the step and paused"
        for each in self._waiting:
            assert each.state is State.WAITING, f"{each.request_id} is in the line but does not wait"
            assert not each.rows, f"{each.request_id} holds rows while it waits"

    # --------------------------------------------------------------------------------------------------- inside

    def _let_in(self) -> tuple[Sequence[Row], ...]:
        joined: list[Sequence[Row]] = []
        while self._waiting and len(joined) < self._max_joins and self._may_start(self._waiting[0]):
            head = self._waiting.popleft()
            self._places.take(head)
            joined.append(head)
        return tuple(joined)

    def _may_start(self, head: Sequence[Row]) -> bool:
        if not self._places.can_hold(head):
            return False
        if self._refused is head and not self._is_choice_due:
            return False
        self._refused = None if self._carries(head) else head
        return self._refused is None

    def _carries(self, sequence: Sequence[Row]) -> bool:
        return self._pacer is None or self._pacer.can_carry(self._held.values(), sequence, self._now_s)

    @property
    def _is_choice_due(self) -> bool:
        return self._must_choose or not self._plan.running or self._steps_since_choice >= QUANTUM_STEPS

    def _choose(self, joined: tuple[Sequence[Row], ...]) -> None:
        """Lay down who runs until somebody joins or leaves, for a quantum at most."""
        self._pay(self._steps_since_choice)
        held = tuple(self._held.values())
        running = held if self._pacer is None else tuple(self._pacer.choose(held, joined, self._now_s))
        for each in held:
            each.state = State.PAUSED
        for each in running:
            each.state = State.RUNNING
        composition = self._plan.composition + (running != self._plan.running)
        self._plan = StepPlan(running, joined, composition)
        self._may_fill = any(each.has_known_music for each in running)
        self._active_rows = sum(each.num_rows for each in running)
        self._steps_since_choice, self._must_choose = 0, False

    def _share_out(self) -> None:
        """Say who of the plan is filled in this step, and by how much; who is not samples."""
        plan, filling = self._plan, [each for each in self._plan.running if each.unfilled_steps]
        sampling = tuple(each for each in plan.running if each.is_sampling)
        composition = plan.composition + (sampling != self._sampling)
        self._sampling = sampling
        rows = self._fill_rows if self._pacer is None else self._pacer.room_to_fill(self._fill_rows, sampling)
        rows = max([rows, *(each.num_rows for each in filling)])  # a position of each row, or it would never get on
        self._shared_steps += bool(filling)
        unheard_first = self._shared_steps % round(1 / UNHEARD_SHARE) == 0
        self._plan = StepPlan(plan.running, plan.joined, composition, shares(filling, rows, unheard_first))

    def _pay(self, steps: int) -> None:
        """Book the steps since the latest choice, on those nobody listens to: paused or run for."""
        for each in self._held.values():
            if each.state is State.PAUSED:
                each.unpaid_steps += steps
            else:
                each.unpaid_steps = max(0, each.unpaid_steps - round(steps * (1 / UNHEARD_SHARE - 1)))
