"""The settings of metrics."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MetricsHost = Annotated[
    str,
    Field(
        pattern=r"^[0-9.]+$",
        description="IPv4 address on which each replica shows its metrics, on a port of its own; 0.0.0.0 on a cluster, "
        "and with it a TUTTI_METRICS_TOKEN or a network policy",
    ),
]
MetricsToken = Annotated[
    str | None,
    Field(
        repr=False,
        min_length=16,
        description="Bearer token that scrapers send; unset: /metrics of the API answers this machine only, and the "
        "replicas' own ports whoever reaches them",
    ),
]
