"""Typed errors of the music. They say what went wrong and what to do; they never say HTTP.

The ingress maps each class to a status in one table (api.errors). All of them survive pickling, because they
cross the boundary between a replica and the ingress.
"""

from __future__ import annotations


class TuttiError(Exception):
    """Base of every error raised on purpose."""


class InvalidRequestError(TuttiError):
    """The caller asked for something that cannot be: fix the named parameter."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return self.message


class CheckpointError(TuttiError):
    """A checkpoint cannot be served: the message names the file, tensor or config value."""


class ModelNotFoundError(TuttiError):
    """No model of that id is served, or no checkpoint lies at that path."""


class EngineOverloadedError(TuttiError):
    """Refused at the door: every row is taken and the wait queue is full.

    Attributes:
        retry_after_s: seconds until the queue has room, from the outstanding steps.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class GenerationFailedError(TuttiError):
    """This request failed inside the engine; others were not touched. Safe to retry."""


class EngineDeadError(TuttiError):
    """The engine can not go on; the replica's health check says so too. Safe to retry on another replica."""


class ReplicaLostError(TuttiError):
    """The replica died while it made this audio. Safe to retry."""
