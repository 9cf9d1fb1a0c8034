"""What every way to run a step has in common: texts when requests join, errors as results, codes by slot."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from models.conditioning.text import TextConditioner
from models.config import DecoderConfig
from models.engine.prompts import prompt_codes
from models.engine.sequence import Sequence
from models.engine.stats import StatsCollector
from models.engine.step import StepPlan, StepResult
from models.errors import GenerationFailedError, TuttiError
from models.musicgen.delay import DelayPattern
from models.musicgen.interface import Decoder
from models.musicgen.rows import RowCache, RowHandle
from models.types import CodePrompt

logger = logging.getLogger(__name__)

Running = Sequence[RowHandle]


class Runner(ABC):
    """
    Args:
        cache: made by ``decoder.new_cache``.
    """

    _history: Tensor
    """int64 [slots, prefix + steps + 1, K], codes as they are sampled, delayed; nothing where a prefix is."""

    def __init__(self, decoder: Decoder, text: TextConditioner, cache: RowCache, stats: StatsCollector) -> None:
        self._decoder = decoder
        self._text = text
        self._cache = cache
        self._stats = stats
        # What was known of a request's track before its window: int64 [K, frames], from the track's first frame on.
        self._known: dict[str, Tensor] = {}

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
        for sequence, _ in plan.filling:
            if sequence.is_turning:
                self._turn(sequence, result)
        try:
            with self._stats.stage("decode"):
                self._step(plan, result)
        except Exception:
            logger.exception("step: %d requests failed together", len(plan.running))
            self._forget_layout()
            result.fail_all(plan)
        return result

    def forget(self, request_id: str) -> None:
        """Drop what is kept for a request beside its rows and its slot, wherever it stands."""
        self._known.pop(request_id, None)

    def codes(self, sequence: Running, first: int, end: int) -> Tensor:
        """Frames ``first`` to ``end`` (not included) of its track, delays undone: int64 ``[K, end − first]``.

        They must be complete as of ``lag`` steps ago.
        """
        known = self._known.get(sequence.request_id) if sequence.has_known_music else None
        if known is None or first >= known.shape[1]:
            return self._made(sequence, first, end)
        before = known[:, first:end].to(self._history.device)
        if end <= known.shape[1]:
            return before
        return torch.cat([before, self._made(sequence, known.shape[1], end)], dim=1)

    def _made(self, sequence: Running, first: int, end: int) -> Tensor:
        """`codes`, of the present window."""
        pattern = DelayPattern(self.config.delays, end - first)
        step = sequence.prefix + first - sequence.window.start + 1
        return pattern.undo(self._history[sequence.slot, step : step + pattern.num_steps])

    # ---------------------------------------------------------------------------------------------- what differs

    @abstractmethod
    def _admit(self, sequence: Running) -> None:
        """Make the slot of a request that enters a window ready; its rows have their texts."""

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
            if sequence.is_conditioned and self.config.cross_attention:
                prompt = sequence.request.prompt
                self._cache.share_cross(sequence.rows[0], prompt, lambda: self._cross_kv(prompt))
            if isinstance(sequence.request.begins_with, CodePrompt):
                self._known[sequence.request_id] = prompt_codes(sequence.request.begins_with, self.config)
            self._admit(sequence)
            self._lay_out_known(sequence)
        except TuttiError as error:  # the prompt itself is at fault, and the error says how
            result.failures[sequence.request_id] = error
        except Exception:
            logger.exception("text: request %s failed", sequence.request_id)
            message = "the prompt could not be encoded; other requests were not touched"
            result.failures[sequence.request_id] = GenerationFailedError(message)

    def _cross_kv(self, prompt: str) -> Any:
        return self._decoder.cross_kv(self._decoder.project_text(self._text.encode(prompt)))

    def _turn(self, sequence: Running, result: StepResult) -> None:
        """A request goes on to its next window: what is known of it is what it has made."""
        try:
            before = sequence.windows[sequence.window_index - 1]
            known = self._known.get(sequence.request_id, torch.empty(len(self.config.delays), 0, dtype=torch.int64))
            pattern = DelayPattern(self.config.delays, before.frames)
            first = sequence.prefix + 1
            made = pattern.undo(self._history[sequence.slot, first : first + pattern.num_steps])[:, before.known :]
            self._known[sequence.request_id] = torch.cat([known, made.cpu()], dim=1)
            for row in sequence.rows:
                self._cache.rewind(row)
            self._admit(sequence)
            self._lay_out_known(sequence)
        except Exception:
            logger.exception("window: request %s failed", sequence.request_id)
            message = f"window {sequence.window_index + 1} could not be begun; other requests were not touched"
            result.failures[sequence.request_id] = GenerationFailedError(message)

    def _lay_out_known(self, sequence: Running) -> None:
        """Write what is known of a window where its steps are read."""
        window = sequence.window
        if window.known:
            known = self._known[sequence.request_id][:, window.start : window.start + window.known]
            steps = DelayPattern(self.config.delays, window.known).apply(known, self.config.special_token)
            first = sequence.prefix + 1
            self._history[sequence.slot, first : first + len(steps)] = steps.to(self._history.device)


def not_finite(step: int) -> GenerationFailedError:
    """Step ``step`` of a request, counted from 1, gave no numbers to sample from."""
    return GenerationFailedError(f"the model's output at step {step} is not finite; the weights may be broken")
