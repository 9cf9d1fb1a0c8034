"""Settings of the HTTP side, read from ``TUTTI_*`` environment variables, checked once, refused on a typo.

Replicas, autoscaling and engine knobs are not here: they live in ``serve_config.yaml``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.secret_keys import MIN_SECRET_CHARACTERS, Secrets, development_secrets, parse_master_keys

PREFIX = "TUTTI_"
_OF_CLIENTS = frozenset({"TUTTI_API_KEY"})  # `tutti generate --url` reads it; a server may find it beside its own
REPOSITORY = Path(__file__).resolve().parents[1]
DAY_S = 86_400


def _default_database_url(given: dict[str, Any]) -> str:
    return f"sqlite+aiosqlite:///{given.get('data_dir', REPOSITORY)}/tutti.db"


def _default_storage_url(given: dict[str, Any]) -> str:
    folder: Path = given.get("data_dir", REPOSITORY)
    return (folder / "audio").as_uri()


class SettingsError(ValueError):
    """A ``TUTTI_*`` variable is unknown or has a bad value: the message names it and says what to do."""


class Settings(BaseSettings):
    """Everything an operator may change about the API without touching code.

    In development every value has a default, and secrets are made at the first use and kept in ``data_dir``. Production
    takes no secret that it was not given. Relative paths are taken from the repository root, since the processes of the
    platform run in different folders.

    Raises:
        SettingsError: an environment variable with the prefix is unknown, a value is out of range, or production lacks
            something.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    environment: Literal["development", "production"] = Field(
        default="development", description="production refuses what is only good enough for one's own machine"
    )
    data_dir: Path = Field(
        default=REPOSITORY / "data",
        description="Folder of what the defaults keep: database, audio, development secrets",
    )
    database_url: str = Field(
        default_factory=_default_database_url,
        repr=False,
        description="sqlite+aiosqlite:////FILE for one node, postgresql://USER:PASSWORD@HOST/DATABASE for more",
    )
    redis_url: str | None = Field(
        default=None,
        repr=False,
        pattern="^(redis|rediss|unix)://",
        description="redis://:PASSWORD@HOST:6379/0; unset: tutti serve runs a Valkey of its own",
    )
    storage_url: str = Field(
        default_factory=_default_storage_url, description="Where audio is kept: file:///FOLDER, s3://…, gs://…, az://…"
    )
    secret_key: str | None = Field(
        default=None,
        repr=False,
        min_length=MIN_SECRET_CHARACTERS,
        description="Signs tokens and API keys; the code reads it from `secrets`",
    )
    master_keys: str | None = Field(
        default=None,
        repr=False,
        description="Encrypt stored audio: ID:BASE64 of 32 bytes, newest first, commas between; read from `secrets`",
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+[^\s]*$",
        description="Address under which clients reach the API; unset: links are relative to the request",
    )
    access_token_ttl_s: int = Field(default=600, ge=60, le=DAY_S, description="Seconds an access token is valid")
    refresh_token_ttl_s: int = Field(
        default=30 * DAY_S, ge=3600, le=366 * DAY_S, description="Seconds a refresh token is valid when it is not used"
    )
    registration_open: bool = Field(
        default=True, description="Anybody may make an account; otherwise only `tutti admin users create`"
    )
    new_account_tier: str = Field(default="free", description="Tier of new accounts, a name in the tiers file")
    local_tier: str = Field(
        default="enterprise", description="Development: tier of requests from this machine that bring no credential"
    )

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

    max_upload_bytes: int = Field(
        default=32 * 2**20, ge=64 * 1024, le=2**30, description="Largest file of audio that a client may upload"
    )
    max_upload_s: float = Field(
        default=120.0, gt=0, le=600, description="Longest uploaded audio, in seconds; more is not even decoded"
    )
    upload_ttl_s: int = Field(default=DAY_S, ge=60, le=30 * DAY_S, description="Seconds until an upload is removed")

    worker_slots: int = Field(
        default=8,
        ge=1,
        le=10_000,
        description="Tracks of one model that a worker has made at once, unless serve_config.yaml says how many",
    )
    worker_drain_s: float = Field(
        default=120.0,
        ge=0,
        le=3600,
        description="Seconds that a stopping worker gives running generations before it gives them back",
    )
    stream_queue_expiry_s: float = Field(
        default=60.0, ge=1, le=3600, description="Seconds a streamed generation may wait in the queue before it expires"
    )
    slow_listener_timeout_s: float = Field(
        default=30.0, gt=0, le=600, description="Seconds a listener may take nothing of its stream before it is cut"
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

    @field_validator("data_dir", "tiers_file")
    @classmethod
    def _from_the_repository(cls, path: Path) -> Path:
        return REPOSITORY / path

    @field_validator("public_url")
    @classmethod
    def _without_last_slash(cls, url: str | None) -> str | None:
        return url and url.rstrip("/")

    @field_validator("master_keys")
    @classmethod
    def _are_keys(cls, text: str | None) -> str | None:
        if text is not None:
            parse_master_keys(text)
        return text

    @model_validator(mode="after")
    def _is_fit_for_production(self) -> Self:
        needed = {
            "TUTTI_SECRET_KEY": (self.secret_key, "openssl rand -base64 32"),
            "TUTTI_MASTER_KEYS": (self.master_keys, 'echo "1:$(openssl rand -base64 32)"'),
        }
        wrong = [f"set {name} (make one with: {how})" for name, (value, how) in needed.items() if value is None]
        lax = {
            "TUTTI_WEBHOOK_ALLOW_HTTP": self.webhook_allow_http,
            "TUTTI_WEBHOOK_ALLOW_PRIVATE": self.webhook_allow_private,
        }
        wrong += [f"unset {name}" for name, allowed in lax.items() if allowed]
        if self.environment == "production" and wrong:
            raise ValueError(f"TUTTI_ENVIRONMENT=production takes nothing that is for development: {', '.join(wrong)}")
        return self

    @cached_property
    def secrets(self) -> Secrets:
        """What signs and encrypts; in development what was not given comes from ``data_dir``, made if need be.

        Raises:
            SettingsError: the development secrets cannot be read or written.
        """
        if self.secret_key is not None and self.master_keys is not None:
            return Secrets(self.secret_key, parse_master_keys(self.master_keys))
        try:
            made = development_secrets(self.data_dir)
        except OSError as error:
            told = f"development secrets cannot be kept in {self.data_dir} ({error.strerror})"
            raise SettingsError(f"{told}: set TUTTI_DATA_DIR to a folder that can be written") from error
        except ValueError as error:
            raise SettingsError(str(error)) from error
        masters = parse_master_keys(self.master_keys) if self.master_keys is not None else made.master_keys
        return Secrets(self.secret_key or made.secret_key, masters)


def refuse_unknown(environment: Mapping[str, str]) -> None:
    """A misspelt variable would be ignored in silence; here it stops the start.

    Raises:
        SettingsError: naming the first unknown variable and the nearest known one.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known | _OF_CLIENTS:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise SettingsError(f"{name} is no setting of Tutti: {hint} Unset it or correct its name.")


def _explain(error: ValidationError) -> str:
    """One line per bad value; the value itself stays out, it may be a secret."""
    return "; ".join(
        "".join(f"{PREFIX}{str(part).upper()}: " for part in e["loc"][:1]) + e["msg"].removeprefix("Value error, ")
        for e in error.errors()
    )
