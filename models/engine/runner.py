"""What every way to run a step has in common: texts when requests join, errors as results, codes by slot."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from models.conditioning.text import TextConditioner
from models.config import DecoderConfig
from models.engine.sequence import Sequence
from models.engine.stats import StatsCollector
from models.engine.step import StepPlan, StepResult
from models.errors import GenerationFailedError, TuttiError
from models.musicgen.delay import DelayPattern
from models.musicgen.interface import Decoder
from models.musicgen.rows import RowCache, RowHandle

logger = logging.getLogger(__name__)

Running = Sequence[RowHandle]


class Runner(ABC):
    """
    Args:
        cache: made by ``decoder.new_cache``.
    """

    _history: Tensor
    """int64 [slots, steps + 1, K], codes as they are sampled, delayed."""

    def __init__(self, decoder: Decoder, text: TextConditioner, cache: RowCache, stats: StatsCollector) -> None:
        self._decoder = decoder
        self._text = text
        self._cache = cache
        self._stats = stats

    @property
    def config(self) -> DecoderConfig:
        """Of the decoder."""
        return self._decoder.config

    @property
    def lag(self) -> int:
        """Steps by which failures and codes come late; a request is in ``lag`` more plans after its last step."""
        return 0

    def audio(self) -> AbstractContextManager[object]:
        """A context in which `codes` are read and decoded."""
        return nullcontext()

    def run(self, plan: StepPlan[RowHandle]) -> StepResult:
        """Run a step of the requests in the plan.

        An error in what belongs to one request (its text, its logits) fails that request; an error in what they share
        fails all of this step. Either way it is in the result and not raised.
        """
        result = StepResult()
        with self._stats.stage("text_encode"):
            for sequence in plan.joined:
                self._join(sequence, result)
        try:
            with self._stats.stage("decode"):
                self._step(plan, result)
        except Exception:
            logger.exception("step: %d requests failed together", len(plan.running))
            self._forget_layout()
            result.fail_all(plan)
        return result

    def codes(self, slot: int, first: int, end: int) -> Tensor:
        """Frames ``first`` to ``end`` (not included), delays undone: int64 ``[K, end − first]``.

        They must be complete as of ``lag`` steps ago.
        """
        pattern = DelayPattern(self.config.delays, end - first)
        return pattern.undo(self._history[slot, first + 1 : first + 1 + pattern.num_steps])

    # ---------------------------------------------------------------------------------------------- what differs

    @abstractmethod
    def _admit(self, sequence: Running) -> None:
        """Make the slot of a request that joins ready; its rows have their texts."""

    @abstractmethod
    def _step(self, plan: StepPlan[RowHandle], result: StepResult) -> None:
        """Sample a step of those who did not fail, and put new failures into the result."""

    @abstractmethod
    def _forget_layout(self) -> None:
        """After a broken step: nothing that was kept for the next one may be relied on."""

    # --------------------------------------------------------------------------------------------------- inside

    def _join(self, sequence: Running, result: StepResult) -> None:
        """Compute what a request listens to, once. The null row listens to nothing and has no cross KV."""
        try:
            if sequence.is_conditioned:
                states = self._text.encode(sequence.request.prompt)
                self._cache.set_cross(sequence.rows[0], self._decoder.cross_kv(self._decoder.project_text(states)))
            self._admit(sequence)
        except TuttiError as error:  # the prompt itself is at fault, and the error says how
            result.failures[sequence.request_id] = error
        except Exception:
            logger.exception("text: request %s failed", sequence.request_id)
            message = "the prompt could not be encoded; other requests were not touched"
            result.failures[sequence.request_id] = GenerationFailedError(message)


def not_finite(step: int) -> GenerationFailedError:
    """Step ``step`` of a request, counted from 1, gave no numbers to sample from."""
    return GenerationFailedError(f"the model's output at step {step} is not finite; the weights may be broken")
