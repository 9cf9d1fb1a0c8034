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
    InvalidRequestError,
    ModelNotFoundError,
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


# What was asked for is at fault: another command may work, the same one will not.
_USAGE = (InvalidRequestError, ModelNotFoundError, CheckpointError)


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
    if isinstance(error, TuttiError):
        exit_code = ExitCode.USAGE if isinstance(error, _USAGE) else ExitCode.FAILED
        return _one_line(str(error)), _code(error), exit_code
    if isinstance(error, OSError):
        return _one_line(str(error)), "system_error", ExitCode.FAILED
    raise error  # a bug: its traceback is the report


def _code(error: TuttiError) -> str:
    """The HTTP API's word where it has one. Imported late: most commands end well and need not wait for it."""
    from api.errors import code_of

    if isinstance(error, CheckpointError):
        return "checkpoint_error"  # a server hides its paths behind model_unavailable; here the path was given
    code = code_of(error)
    return "failed" if code is None else code.value


def _usage_message(error: Exception) -> str:
    formatted = getattr(error, "format_message", None)
    message = str(formatted() if formatted else error).rstrip(".")
    return f"{message}. See tutti --help." if message else ""


def _one_line(message: str) -> str:
    return " ".join(message.split())
