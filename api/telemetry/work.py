"""What becomes of generations, told to telemetry by whoever has committed it: worker, housekeeping, gateway."""

from __future__ import annotations

from typing import Protocol

from api.generations.transition import Change
from api.generations.view import GenerationView
from api.telemetry.recorder import Subject, Telemetry, exemplar
from api.tracing import trace_id_in


class Attempt(Protocol):
    """One attempt that is over (``api.generations.run.Run``)."""

    @property
    def view(self) -> GenerationView: ...

    @property
    def made_s(self) -> float:
        """Seconds of audio that were made."""
        ...

    @property
    def valid(self) -> bool:
        """Nothing is wrong with what was made."""
        ...


class WorkCounts:
    """Counts each change once: call it after its commit."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def changed(self, change: Change) -> None:
        """A generation came into another state, and nobody was working on it."""
        self._count(change, valid=None)

    def settled(self, attempt: Attempt, change: Change | None) -> None:
        """An attempt is over; None: somebody else has the generation now, or had it before."""
        came_to_something = change is not None and change.ended is not None and change.ended.outcome == "completed"
        if not came_to_something and attempt.made_s > 0:
            view = attempt.view
            self._telemetry.wasted(Subject.of(view.model_id, view.tier, view.mode), attempt.made_s)
        if change is not None:
            self._count(change, valid=attempt.valid if came_to_something or not attempt.valid else None)

    def _count(self, change: Change, valid: bool | None) -> None:
        ended = change.ended
        if ended is not None:
            ids = exemplar(ended.request_id, trace_id_in(ended.traceparent))
            self._telemetry.generation_ended(ended, valid, ids)
