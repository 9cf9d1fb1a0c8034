"""`ModelRunner` for a GPU: captured steps, started ahead of what the host knows. The same verbs, the same results.

Every length is known when a request joins, so nothing that a step decides is needed to start the next one. The host
starts steps and looks at what became of them ``run_ahead`` steps later, when a small copy has come in; the device never
waits for the host in between.

    host     start 7 | look at 5 | codec of 5 | start 8 | look at 6 | ..
    device   ...... 5 ......|....... 6 ......|....... 7 ......|..

So a failure is known, and codes are complete, ``run_ahead`` steps late, and a request stays in the plan for as many
steps after its last one; see `GraphRunner.lag`.
"""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.conditioning.text import TextConditioner
from models.engine.graph_executor import Executor
from models.engine.graph_filling import Filler
from models.engine.runner import Runner, Running, not_finite
from models.engine.sequence import State
from models.engine.static_buffers import Buffers, Control
from models.engine.static_step import StaticStep
from models.engine.stats import StatsCollector
from models.engine.step import StepPlan, StepResult
from models.errors import GenerationFailedError
from models.musicgen.rows import RowHandle
from models.musicgen.static_cache import StaticKVCache
from models.musicgen.static_decoder import StaticDecoder


def row_buckets(max_rows: int) -> tuple[int, ...]:
    """Numbers of rows that are captured: 1, 2, 4, 8 … and the most there are."""
    buckets, rows = [], 1
    while rows < max_rows:
        buckets.append(rows)
        rows *= 2
    return (*buckets, max_rows)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A step that was started.

    Attributes:
        members: those in it, with their slots.
        broken: int64 [S + 1] in host memory, valid once ``mark`` is reached; see `Buffers.broken`.
    """

    mark: Any
    members: tuple[tuple[Running, int], ...]
    broken: Tensor


class GraphRunner(Runner):
    """
    Args:
        max_slots: most rows of a step, and most requests that hold rows, paused ones included.
        max_steps: of the longest window.
        run_ahead: steps that may be started before the one whose result is looked at; 0 is step by step.
        fill_rows: most rows of a step that work through known music.
    """

    def __init__(
        self,
        decoder: StaticDecoder,
        text: TextConditioner,
        cache: StaticKVCache,
        stats: StatsCollector,
        *,
        max_slots: int,
        max_steps: int,
        device: torch.device | str,
        run_ahead: int = 2,
        fill_rows: int = 16,
    ) -> None:
        super().__init__(decoder, text, cache, stats)
        assert run_ahead >= 0, "nothing is looked at before it was started: this is a bug"
        self._places = cache
        self._run_ahead = run_ahead
        self._buckets = row_buckets(max_slots)
        self._buffers = Buffers.of(self.config, max_slots, max_slots, max_steps, device)
        self._history = self._buffers.history
        pinned = torch.device(device).type == "cuda"
        self._control = Control(max_slots, max_slots, "cpu")
        self._control.clear_layout(max_slots)
        self._control.describe_nobody(cache)
        # One more than can be on their way: a block is written again only when the copy from it has been made.
        self._blocks = deque(Control(max_slots, max_slots, "cpu", pinned) for _ in range(run_ahead + 2))
        self._flags = deque(
            torch.zeros(max_slots + 1, dtype=torch.int64, pin_memory=pinned) for _ in range(run_ahead + 2)
        )
        self._flights: deque[_Flight] = deque()
        self._found: dict[Running, GenerationFailedError] = {}  # what became of those who are not in a plan since
        self._members: tuple[tuple[Running, int], ...] = ()
        self._rows = 0
        self._bucket = 0
        self._composition: int | None = None
        self._steps_left = 0  # until somebody in the layout is done
        self._send_control()
        step = StaticStep(decoder, cache, self._buffers, max_steps + 1)
        self._filler = Filler(decoder, cache, self._buffers, fill_rows, max_steps + 1)
        self._executor = Executor.of(device, step)
        self._executor.prepare(self._buckets)

    @property
    def lag(self) -> int:
        return self._run_ahead

    def audio(self) -> AbstractContextManager[object]:
        """Beside the steps, on a stream of its own."""
        return self._executor.audio()

    # --------------------------------------------------------------------------------------------------- inside

    def _join(self, sequence: Running, result: StepResult) -> None:
        super()._join(sequence, result)
        self._composition = None  # whatever came of it, the layout is another

    def _turn(self, sequence: Running, result: StepResult) -> None:
        super()._turn(sequence, result)
        self._composition = None

    def _lay_out_known(self, sequence: Running) -> None:
        super()._lay_out_known(sequence)
        if sequence.has_known_music:
            self._filler.begin(sequence)

    def _admit(self, sequence: Running) -> None:
        """Put its parameters where the step finds them."""
        self._buffers.clear_slot(sequence.slot, self.config.special_token)
        self._control.describe(sequence, self._places, self.config.vocab_size)

    def _step(self, plan: StepPlan[RowHandle], result: StepResult) -> None:
        """Start a step of those who have steps left, and say what became of earlier ones."""
        self._tell(plan, result)
        self._start(plan, result)
        self._look_back()
        self._tell(plan, result)

    def _forget_layout(self) -> None:
        """What was started before stays to be looked at: some of it is of requests that pause, and did not fail."""
        self._composition = None

    def _start(self, plan: StepPlan[RowHandle], result: StepResult) -> None:
        if self._composition != plan.composition or self._steps_left == 0:
            self._lay_out(plan, result)
        if plan.filling:
            self._filler.fill((each, share) for each, share in plan.filling if each.request_id not in result.failures)
        if self._members:
            self._executor.launch(self._bucket)
            self._steps_left -= 1
            for sequence, _ in self._members:
                if sequence.has_known_music:
                    self._filler.mend(sequence)
        if self._members or plan.filling:
            self._stats.count_step((self._rows if self._members else 0) + plan.filled_rows)
        self._flags[-1].copy_(self._buffers.broken, non_blocking=True)
        self._flights.append(_Flight(self._executor.mark(), self._members, self._flags[-1]))
        self._flags.rotate(1)

    def _lay_out(self, plan: StepPlan[RowHandle], result: StepResult) -> None:
        """Put those who have steps left into the step; the others only wait for their last codes."""
        stepping = [each for each in plan.running if each.is_sampling and each.request_id not in result.failures]
        self._members = tuple((each, each.slot) for each in stepping)
        self._composition = plan.composition
        # Without anybody it is laid out anew when the plan changes.
        self._steps_left = min((each.unsampled_steps for each in stepping), default=-1)
        if stepping:
            self._rows = sum(each.num_rows for each in stepping)
            self._bucket = next(rows for rows in self._buckets if rows >= self._rows)
            self._control.lay_out(stepping, self._bucket)
            self._send_control()

    def _send_control(self) -> None:
        self._blocks.rotate(1)
        self._blocks[0].copy_from(self._control)
        self._buffers.control.copy_from(self._blocks[0])

    def _look_back(self) -> None:
        """See what became of the steps that are no longer ahead."""
        while len(self._flights) > self._run_ahead:
            flight = self._flights.popleft()
            self._executor.wait(flight.mark)
            if bool(flight.broken.any()):
                self._find_not_finite(flight)

    def _find_not_finite(self, flight: _Flight) -> None:
        for sequence, slot in flight.members:
            step = int(flight.broken[slot])
            if step:
                self._found.setdefault(sequence, not_finite(step))

    def _tell(self, plan: StepPlan[RowHandle], result: StepResult) -> None:
        """Fail those in the plan whose steps were found broken; who pauses is told when it is in a plan again, since
        nothing is heard of a request that is in none."""
        if not self._found:
            return
        for sequence in plan.running:
            error = self._found.pop(sequence, None)
            if error is not None:
                result.failures.setdefault(sequence.request_id, error)
        self._found = {each: error for each, error in self._found.items() if each.state is not State.DONE}
