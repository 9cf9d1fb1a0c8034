"""What the command line says, and how it ends: people read stderr, machines read one JSON object on stdout.

Exit codes: 0 done; 1 it failed (server, engine, disk, or a check of the doctor); 2 what was asked for cannot be
(fix the command); 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import typer
from rich.console import Console

from models.errors import (
    CheckpointError,
    EngineDeadError,
    EngineOverloadedError,
    GenerationFailedError,
    InvalidRequestError,
    ModelNotFoundError,
    ReplicaLostError,
    TuttiError,
)

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


class CliError(TuttiError):
    """The command cannot go on: the message says why and what to do.

    Attributes:
        code: the word that machines compare, as in the HTTP API's error envelope.
        exit_code: how the process ends.
    """

    def __init__(self, message: str, code: str, exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code


def usage_error(message: str) -> CliError:
    """What was asked for cannot be; nothing was started."""
    return CliError(message, "invalid_parameter", ExitCode.USAGE)


# The first class that fits names the error for machines (in the HTTP API's words where it has one, see
# api.errors, which is not imported here because it loads FastAPI) and says how the process ends.
_KNOWN: tuple[tuple[type[Exception], str, ExitCode], ...] = (
    (InvalidRequestError, "invalid_parameter", ExitCode.USAGE),
    (ModelNotFoundError, "model_not_found", ExitCode.USAGE),
    (CheckpointError, "checkpoint_error", ExitCode.USAGE),
    (EngineOverloadedError, "system_overloaded", ExitCode.FAILED),
    (GenerationFailedError, "generation_failed", ExitCode.FAILED),
    (EngineDeadError, "model_unavailable", ExitCode.FAILED),
    (ReplicaLostError, "replica_lost", ExitCode.FAILED),
    (TuttiError, "failed", ExitCode.FAILED),
    (OSError, "system_error", ExitCode.FAILED),
)


def report_error(error: Exception, *, as_json: bool) -> ExitCode:
    """Say the error in one line (and as JSON if asked) and return how the process ends."""
    message, code, exit_code = _classify(error)
    if not message:
        return exit_code  # a bare `tutti` has shown its help
    details: dict[str, Any] = {"code": code, "message": message}
    if isinstance(error, InvalidRequestError) and error.param:
        details["param"] = error.param
    if as_json:
        print_json({"error": details})
    stderr.print("Error:", style="bold red", end=" ")
    stderr.print(message, markup=False)
    return exit_code


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _classify(error: Exception) -> tuple[str, str, ExitCode]:
    if isinstance(error, CliError):
        return _one_line(str(error)), error.code, error.exit_code
    if isinstance(error, typer.TyperException):
        return _one_line(_usage_message(error)), "invalid_parameter", ExitCode.USAGE
    for kind, code, exit_code in _KNOWN:
        if isinstance(error, kind):
            return _one_line(str(error)), code, exit_code
    raise error  # a bug: its traceback is the report


def _usage_message(error: Exception) -> str:
    formatted = getattr(error, "format_message", None)
    message = str(formatted() if formatted else error).rstrip(".")
    return f"{message}. See tutti --help." if message else ""


def _one_line(message: str) -> str:
    return " ".join(message.split())
