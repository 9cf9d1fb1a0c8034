"""Answers of the health and version routes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Dependency(BaseModel):
    """Something this server depends on."""

    name: str = Field(examples=["model:tiny"])
    ready: bool
    required: bool = Field(description="Without it no request is served; the others only help")
    reason: str | None = Field(default=None, description="Why not, if not")


class Readiness(BaseModel):
    status: Literal["ready"] = "ready"
    dependencies: list[Dependency]


class Version(BaseModel):
    name: Literal["tutti"] = "tutti"
    version: str
    api: Literal["v1"] = "v1"
    credentials: Literal["optional", "required"] = Field(
        description="Whether requests from where you are need a credential; optional only in development"
    )


class TargetGroup(BaseModel):
    """An entry of Prometheus's HTTP service discovery."""

    targets: list[str] = Field(description="host:port of one replica", examples=[["127.0.0.1:43121"]])
    labels: dict[str, str] = Field(
        description="Its part of the platform and its name", examples=[{"role": "ingress", "replica": "ing_1"}]
    )
