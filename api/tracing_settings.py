"""What is traced and where it goes: three settings, which a replica reads too, though it takes no others."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.environment import PREFIX, SettingsError, explain

Exporter = Annotated[
    Literal["none", "console", "otlp"],
    Field(description="Where traces go: console is standard error, otlp an OpenTelemetry collector (extra `otlp`)"),
]
Endpoint = Annotated[
    str, Field(pattern=r"^https?://[^/\s]+[^\s]*$", description="Where the collector takes traces by OTLP over HTTP")
]
SampleRatio = Annotated[
    float,
    Field(ge=0, le=1, description="Share of the traces that is recorded; a client can ask for less and not for more"),
]

DEFAULT_ENDPOINT = "http://127.0.0.1:4318/v1/traces"


class TracingWish(Protocol):
    """Any settings that say what is traced."""

    @property
    def tracing_exporter(self) -> str: ...
    @property
    def tracing_endpoint(self) -> str: ...
    @property
    def tracing_sample_ratio(self) -> float: ...


class TracingSettings(BaseSettings):
    """Of a process that needs none of the others.

    Raises:
        SettingsError: a value is out of range.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    tracing_exporter: Exporter = "none"
    tracing_endpoint: Endpoint = DEFAULT_ENDPOINT
    tracing_sample_ratio: SampleRatio = 1.0

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(explain(error)) from None
