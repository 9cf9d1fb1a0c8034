"""Settings of the HTTP side, read from ``TUTTI_*`` environment variables, checked once, refused on a typo.

Replicas, autoscaling and engine knobs are not here: they live in ``serve_config.yaml``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "TUTTI_"


class SettingsError(ValueError):
    """A ``TUTTI_*`` variable is unknown or has a bad value: the message names it and says what to do."""


class Settings(BaseSettings):
    """Everything an operator may change about the API without touching code.

    Raises:
        SettingsError: an environment variable with the prefix is unknown, or a value is out of range.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    default_model: str | None = Field(
        default=None, description="Model of requests that name none; unset: the first one in serve_config.yaml"
    )
    max_body_bytes: int = Field(
        default=64 * 1024, ge=1024, description="Largest request body; 2,000 characters of prompt need at most 24 kB"
    )
    ready_timeout_s: float = Field(
        default=2.0, gt=0, le=60, description="Seconds /health/ready waits for each dependency"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least important level that is logged"
    )
    log_prompts: bool = Field(default=False, description="Write prompts to the log: they are personal data")
    tiers_file: Path = Field(
        default=Path(__file__).parent / "limits" / "tiers.yaml",
        description="What each tier may do, and the request rates; api/limits/tiers.yaml unless set",
    )

    webhook_allow_http: bool = Field(default=False, description="Development: webhooks may go to http:// addresses")
    webhook_allow_private: bool = Field(
        default=False, description="Development: webhooks may go to loopback and private addresses, on any port"
    )
    webhook_concurrency: int = Field(
        default=32, ge=1, le=1000, description="Webhook deliveries one worker has in flight at once"
    )
    webhook_endpoint_concurrency: int = Field(
        default=4, ge=1, le=100, description="Webhook deliveries in flight to one endpoint at once, over all workers"
    )
    webhook_timeout_s: float = Field(
        default=15.0, gt=0, le=60, description="Seconds a webhook's receiver has, from name resolution to its answer"
    )
    webhook_log_days: int = Field(
        default=30, ge=7, le=365, description="Days that finished webhook deliveries stay in the log"
    )

    def __init__(self, **values: Any) -> None:
        refuse_unknown(os.environ)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None


def refuse_unknown(environment: Mapping[str, str]) -> None:
    """A misspelt variable would be ignored in silence; here it stops the start.

    Raises:
        SettingsError: naming the first unknown variable and the nearest known one.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise SettingsError(f"{name} is no setting of Tutti: {hint} Unset it or correct its name.")


def _explain(error: ValidationError) -> str:
    """One line per bad value; the value itself stays out, it may be a secret."""
    lines = [f"{PREFIX}{'.'.join(str(part) for part in e['loc']).upper()}: {e['msg']}" for e in error.errors()]
    return "; ".join(lines)
