"""What ``api`` composes for a process of its own. ``api`` is above this package: it is named as text, not imported."""

from __future__ import annotations

import importlib
from typing import Any

SETTINGS = "api.settings"
LOGS = "api.logs"


def composed(factory: str, service: str, *arguments: Any, **named: Any) -> Any:
    """What a factory makes of these arguments, this process's settings, and its log, to which everything goes that is
    told to Python's logging.

    Args:
        factory: "module:function".
        service: the constant of ``api.logs`` that names this process there.

    Raises:
        SettingsError: a TUTTI_* variable is unknown or has a bad value.
    """
    settings: Any = importlib.import_module(SETTINGS).Settings()
    logs: Any = importlib.import_module(LOGS)
    log: Any = logs.service_logger(settings, getattr(logs, service))
    module, _, function = factory.partition(":")
    return getattr(importlib.import_module(module), function)(*arguments, settings, log=log, **named)
