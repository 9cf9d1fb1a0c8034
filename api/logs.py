"""Structured logs: one JSON object a line on standard error, each with the ids of what it belongs to.

``correlation`` puts ids (request, generation, account) around a piece of work; every line written inside carries them,
in whatever task or module. Prompts are personal data and never logged by default (see ``api.redaction``).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TextIO

import structlog
from structlog.contextvars import (
    bind_contextvars,
    bound_contextvars,
    clear_contextvars,
    get_contextvars,
    merge_contextvars,
)
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from api.redaction import Redactor, hiding
from api.settings import Settings
from api.tracing import current_trace_id

SERVICE = "tutti-api"
WORKER_SERVICE = "tutti-worker"
About = Callable[[str], Mapping[str, str]]
_BRIDGED = ("api", "deployments", "tutti")


def make_logger(
    level: str, stream: TextIO | None = None, *, log_prompts: bool = False, service: str = SERVICE
) -> FilteringBoundLogger:
    """A logger of its own: nothing global is configured, so Ray's and the test runner's logging stay as they are.

    Args:
        level: the least important one that is written.
        stream: standard error if left out.
        log_prompts: prompts may be written.
        service: which part of the platform writes.
    """
    return _logger(level, stream, Redactor(log_prompts=log_prompts), service)


def service_logger(settings: Settings, service: str) -> FilteringBoundLogger:
    """The logger of a gateway or a worker in a process of its own, to which everything goes that the modules here and
    those of the deployments tell Python's ``logging``."""
    log = make_logger(settings.log_level, log_prompts=settings.log_prompts, service=service)
    bridge(log, *_BRIDGED)
    return log


def engine_logger(
    prompts: Callable[[], Iterable[str]], stream: TextIO | None = None, *, about: About = lambda _: {}
) -> FilteringBoundLogger:
    """The logger of a model's replica, to which everything goes that its modules tell Python's ``logging``.

    Args:
        prompts: those in flight: the engine works on many requests in one thread, so no context says whose turn it is.
        stream: standard error if left out.
        about: a track that a line of the engine names → the ids of what it belongs to.
    """
    level = os.environ.get("TUTTI_LOG_LEVEL", "info")
    log = _logger(level, stream, Redactor(texts=prompts), "tutti-engine")
    bridge(log, "models", *_BRIDGED, about=about)
    return log


def _logger(level: str, stream: TextIO | None, redactor: Redactor, service: str) -> FilteringBoundLogger:
    target: WrappedLogger = structlog.WriteLogger(stream or sys.stderr)
    logger: Any = structlog.wrap_logger(
        target,
        processors=[
            merge_contextvars,
            _add_trace_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redactor,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        context_class=dict,
    )
    bound: FilteringBoundLogger = logger.bind(service=service)
    return bound


def _add_trace_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if (trace_id := current_trace_id()) is not None:
        event.setdefault("trace_id", trace_id)
    return event


def correlation(**ids: str | None) -> AbstractContextManager[None]:
    """Inside this block every line carries these ids; an id that is None is left as it was around it."""
    return bound_contextvars(**{name: value for name, value in ids.items() if value is not None})


def correlate(**ids: str) -> None:
    """The same for the rest of the request."""
    bind_contextvars(**ids)


@contextmanager
def request_scope(request_id: str) -> Iterator[None]:
    """One request: what is correlated or hidden inside it is forgotten at its end, whatever task runs the next one."""
    before = get_contextvars()
    clear_contextvars()
    bind_contextvars(request_id=request_id)
    try:
        with hiding():
            yield
    finally:
        clear_contextvars()
        bind_contextvars(**before)


class Bridge(logging.Handler):
    """Hands what Python's own ``logging`` is told to a structured logger, so that libraries' lines look like ours."""

    def __init__(self, log: FilteringBoundLogger, about: About) -> None:
        super().__init__()
        self._log = log
        self._about = about

    def emit(self, record: logging.LogRecord) -> None:
        named = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
        ids = {key: value for each in named if isinstance(each, str) for key, value in self._about(each).items()}
        self._log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info, **ids)


def bridge(log: FilteringBoundLogger, *names: str, about: About = lambda _: {}) -> None:
    """Send the standard loggers of these names to ``log``; a bridge that was there before is replaced.

    Args:
        about: a word that a line is made with → the ids that the line gets for it.
    """
    for name in names:
        logger = logging.getLogger(name)
        for handler in [handler for handler in logger.handlers if isinstance(handler, Bridge)]:
            logger.removeHandler(handler)
        logger.addHandler(Bridge(log, about))
