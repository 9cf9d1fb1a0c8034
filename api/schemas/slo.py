"""Service levels as operators see them."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class WindowAttainment(BaseModel):
    """Events of one window, which ends now."""

    good: int = Field(examples=[9990])
    bad: int = Field(examples=[10])
    attainment: float | None = Field(description="Share of good ones; null: there were none", examples=[0.999])
    burn_rate: float | None = Field(
        description="How many times faster than allowed the budget was spent; above 1 it would not last",
        examples=[0.1],
    )


class ErrorBudget(BaseModel):
    """What may still go wrong within the longest window."""

    window: str = Field(examples=["30d"])
    allowed: float = Field(description="Bad events that the objective allows for so many events", examples=[100.0])
    spent: int = Field(description="Bad events", examples=[10])
    remaining: float | None = Field(
        description="Share of the budget that is left; below 0 the objective is missed; null: nothing happened yet",
        examples=[0.9],
    )


class ServiceLevel(BaseModel):
    """One service level of one tier."""

    sli: str = Field(examples=["ttfa"])
    tier: str = Field(examples=["pro"])
    objective: float = Field(description="Share of good events that is promised", examples=[0.99])
    threshold_s: float | None = Field(
        description="Seconds up to which an event is good; null: it is no time, or depends on the length of the audio",
        examples=[2.5],
    )
    windows: dict[str, WindowAttainment] = Field(description="5m, 1h, 6h, 1d, 3d, 30d")
    error_budget: ErrorBudget


class ServiceLevels(BaseModel):
    """All of them, over all replicas."""

    as_of: datetime
    service_levels: list[ServiceLevel]
