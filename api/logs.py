"""Structured logs: one JSON object a line on standard error. Prompts are personal data and never logged."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, WrappedLogger


def make_logger(level: str, stream: TextIO | None = None) -> FilteringBoundLogger:
    """A logger of its own: nothing global is configured, so Ray's and the test runner's logging stay as they are."""
    target: WrappedLogger = structlog.WriteLogger(stream or sys.stderr)
    logger: Any = structlog.wrap_logger(
        target,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        context_class=dict,
    )
    bound: FilteringBoundLogger = logger.bind(service="tutti-api")
    return bound
