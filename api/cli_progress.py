"""The progress bar of ``tutti generate``: seconds of music, and how much faster than it plays it is made."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text


class RealTimeColumn(ProgressColumn):
    """Seconds of music per second of waiting."""

    def render(self, task: Task) -> Text:
        elapsed_s = task.finished_time if task.finished else task.elapsed
        if not elapsed_s or not task.completed:
            return Text("–× real time")
        return Text(f"{task.completed / elapsed_s:.1f}× real time")


class StreamProgress:
    """Shown on a terminal only: a log file gets no bar.

    Args:
        console: where to draw.
        total_s: seconds of music to come.
    """

    def __init__(self, console: Console, total_s: float) -> None:
        self._progress = Progress(
            TextColumn("Making music"),
            BarColumn(),
            TextColumn("{task.completed:.1f} of {task.total:.1f} s"),
            RealTimeColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total_s)

    def advance(self, seconds: float) -> None:
        self._progress.advance(self._task, seconds)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
