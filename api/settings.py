"""Settings of the HTTP side, read from ``TUTTI_*`` environment variables, checked once, refused on a typo.

Replicas, autoscaling and engine knobs are not here: they live in ``serve_config.yaml``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.auth.client_address import parse_networks
from api.environment import PREFIX, SettingsError, explain, refuse_unknown
from api.production import unfit
from api.secret_keys import (
    MIN_SECRET_CHARACTERS,
    Secrets,
    complete_secrets,
    parse_master_keys,
    parse_previous_secret_keys,
)
from api.telemetry.options import MetricsHost, MetricsToken
from api.tracing_settings import DEFAULT_ENDPOINT, Endpoint, Exporter, SampleRatio

__all__ = ["REPOSITORY", "Settings", "SettingsError"]

REPOSITORY = Path(__file__).resolve().parents[1]
DAY_S = 86_400
_PARSERS: dict[str, Callable[[str], object]] = {
    "master_keys": parse_master_keys,
    "previous_secret_keys": parse_previous_secret_keys,
    "trusted_proxies": parse_networks,
}


def _default_database_url(given: dict[str, Any]) -> str:
    return f"sqlite+aiosqlite:///{given.get('data_dir', REPOSITORY)}/tutti.db"


def _default_storage_url(given: dict[str, Any]) -> str:
    folder: Path = given.get("data_dir", REPOSITORY)
    return (folder / "audio").as_uri()


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
    # The code reads what signs and encrypts from `secrets`.
    secret_key: str | None = Field(
        default=None,
        repr=False,
        min_length=MIN_SECRET_CHARACTERS,
        description="Signs access tokens and hashes API keys; unset: development makes its own in TUTTI_DATA_DIR",
    )
    previous_secret_keys: str = Field(
        default="",
        repr=False,
        description="What TUTTI_SECRET_KEY was before, newest first, commas between: still accepted, never given out",
    )
    master_keys: str | None = Field(
        default=None,
        repr=False,
        description="Encrypt stored audio: ID:BASE64 of 32 bytes, newest first, commas between; unset: as above",
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+[^\s]*$",
        description="Address under which clients reach the API; unset: links are relative to the request",
    )
    trusted_proxies: str = Field(
        default="",
        description="Networks (CIDR, commas between) of the proxies whose X-Forwarded-For tells the client's address",
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
        default=60.0,
        ge=1,
        le=3600,
        description="Seconds a streamed generation may wait in the queue before it expires, from when a replica of its "
        "model is expected to serve",
    )
    slow_listener_timeout_s: float = Field(
        default=30.0, gt=0, le=600, description="Seconds a listener may take nothing of its stream before it is cut"
    )
    stream_access_check_s: float = Field(
        default=30.0,
        gt=0,
        le=300,
        description="Seconds after which an open stream has lost a credential that was revoked",
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

    cpu_kernel: Literal["native", "portable", "off"] = Field(
        default="native",
        description="Which CPU kernel computes the steps: for this processor, for any, or none (torch, slower)",
    )
    kernel_cache: Path | None = Field(
        default=None, description="Folder that keeps the compiled CPU kernel; unset: tutti/kernels in the user's cache"
    )
    weight_cache: Path | None = Field(
        default=None,
        description="Folder that keeps weights as the CPU kernel reads them, mapped by all replicas of a machine; "
        "unset: tutti/weights in the user's cache",
    )
    weight_cache_gb: float = Field(
        default=16.0,
        ge=0,
        allow_inf_nan=False,
        description="Gigabytes that it may have; what was used longest ago goes first. 0: each replica packs its own",
    )

    model_catalog: Path | None = Field(
        default=None, description="File of `tutti models`: which models there are; unset: checkpoints/catalog.json"
    )

    metrics_host: MetricsHost = "127.0.0.1"
    metrics_token: MetricsToken = None
    tracing_exporter: Exporter = "none"
    tracing_endpoint: Endpoint = DEFAULT_ENDPOINT
    tracing_sample_ratio: SampleRatio = 1.0

    def __init__(self, **values: Any) -> None:
        refuse_unknown(os.environ, type(self).model_fields)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(explain(error)) from None

    @field_validator("data_dir", "tiers_file")
    @classmethod
    def _from_the_repository(cls, path: Path) -> Path:
        return REPOSITORY / path

    @field_validator("public_url")
    @classmethod
    def _without_last_slash(cls, url: str | None) -> str | None:
        return url and url.rstrip("/")

    @field_validator(*_PARSERS)
    @classmethod
    def _can_be_read(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None:
            _PARSERS[str(info.field_name)](text)
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.secret_key in parse_previous_secret_keys(self.previous_secret_keys):
            raise ValueError("TUTTI_PREVIOUS_SECRET_KEYS holds TUTTI_SECRET_KEY itself: set a new one, or take it out")
        wrong = unfit(self) if self.environment == "production" else []
        if wrong:
            raise ValueError(f"TUTTI_ENVIRONMENT=production takes nothing that is for development: {', '.join(wrong)}")
        return self

    @cached_property
    def secrets(self) -> Secrets:
        """What signs and encrypts; in development what was not given comes from ``data_dir``, made if need be.

        Raises:
            SettingsError: the development secrets cannot be read or written.
        """
        try:
            return complete_secrets(self.secret_key, self.master_keys, self.previous_secret_keys, self.data_dir)
        except ValueError as error:
            raise SettingsError(str(error)) from error
