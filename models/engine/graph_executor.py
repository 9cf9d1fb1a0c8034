"""How a static step is run: at once, or as captured CUDA graphs. What is started, marked, waited for; no requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.engine.capture import CudaCapture, Work

Step = Callable[[int], None]


class Executor(ABC):
    """
    Args:
        step: the whole step for a number of rows.
    """

    def __init__(self, step: Step) -> None:
        self._step = step

    @staticmethod
    def of(device: torch.device | str, step: Step) -> Executor:
        """Graphs on a GPU; elsewhere there are none."""
        return CudaExecutor(torch.device(device), step) if torch.device(device).type == "cuda" else EagerExecutor(step)

    @abstractmethod
    def prepare(self, buckets: Sequence[int]) -> None:
        """Make these numbers of rows ready, before anybody waits for a step."""

    @abstractmethod
    def launch(self, rows: int) -> None:
        """Start a step of so many rows, one of those prepared."""

    @abstractmethod
    def mark(self) -> Any:
        """A point after all that was started so far."""

    @abstractmethod
    def wait(self, mark: Any) -> None:
        """Return when that point is reached."""

    @abstractmethod
    def audio(self) -> AbstractContextManager[object]:
        """A context for work beside the steps; it sees what the latest mark waited for has done."""


class EagerExecutor(Executor):
    """Runs the step when it is launched. On a CPU it is done when that returns."""

    def prepare(self, buckets: Sequence[int]) -> None:
        """Nothing to do."""

    def launch(self, rows: int) -> None:
        self._step(rows)

    def mark(self) -> None:
        return None

    def wait(self, mark: None) -> None:
        """It is reached already."""

    def audio(self) -> AbstractContextManager[object]:
        return nullcontext()


class CudaExecutor(Executor):
    """Captures the step once for each number of rows and replays it: one launch for hundreds of kernels.

    Steps run on the stream that is current when they are launched. Audio has a stream of its own, which waits for
    nothing: it reads codes only of steps whose mark the host has waited for. (A stream that waits for the *current*
    stream instead would stand behind all the steps that were started ahead.)
    """

    def __init__(self, device: torch.device, step: Step) -> None:
        super().__init__(step)
        self._device = device
        self._steps: dict[int, Work] = {}
        self._audio_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def prepare(self, buckets: Sequence[int]) -> None:
        """The largest first, so that the others share its memory."""
        capture = CudaCapture(self._device)
        for rows in sorted(buckets, reverse=True):
            self._steps[rows] = capture(partial(self._whole_step, rows))

    def _whole_step(self, rows: int) -> tuple[Tensor, ...]:
        self._step(rows)
        return ()  # what it makes stays in its buffers

    def launch(self, rows: int) -> None:
        self._steps[rows]()

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait(self, mark: torch.cuda.Event) -> None:
        mark.synchronize()

    def audio(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._audio_stream)
