"""What each tier may do: read from one YAML file, checked once, refused on a typo."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from autoscaling.fairness import TierRule

TIERS_FILE = Path(__file__).parent / "tiers.yaml"

_Count = Annotated[int, Field(ge=1, le=10**9)]
_Seconds = Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]
_MAX_SHARE_SUM = 1.0 + 1e-9


class TiersError(ValueError):
    """The tiers file cannot be used: the message names the file, the field and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Deadline(_Strict):
    """What is promised to an asynchronous generation: done ``c0_s + c1 · duration_s`` after it was accepted."""

    c0_s: _Seconds
    c1: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)]


class RatePolicy(_Strict):
    """At most ``limit`` hits in any ``window_s`` seconds."""

    limit: _Count
    window_s: Annotated[int, Field(ge=1, le=86_400)]


class Rates(_Strict):
    """Policies that do not depend on the tier."""

    anonymous: RatePolicy
    login_ip: RatePolicy
    login_account: RatePolicy
    register_: RatePolicy = Field(alias="register")  # BaseModel has a method of that name
    upload: RatePolicy


class Tier(_Strict):
    """One tier. ``None`` is without limit.

    Attributes:
        name: its key in the file.
        audio_s_per_day: seconds, tracks × duration, per day in UTC.
        max_duration_s: of one track.
        max_tracks: of one generation.
        running: generations at the same time.
        queued: that may wait besides.
        listeners: streams of events, audio and WebSockets that a gateway holds open for an account at the same time.
        queue_share: fraction of the capacity that the tier gets at least, while others have work too.
        queue_weight: of an account beside others: audio-seconds are charged divided by it.
        queue_leaves: fraction of what the ready replicas play at once that the tier leaves free for those with a larger
            share; the largest has nobody above it and leaves nothing.
        max_wait_s: an asynchronous generation that would wait longer is refused at the door.
        max_stream_wait_s: the same for one that somebody listens to.
        queue_expiry_s: one that still waits after this expires.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    generations_per_hour: _Count | None
    generations_per_day: _Count | None
    audio_s_per_day: _Seconds | None
    max_duration_s: _Seconds
    max_tracks: Annotated[int, Field(ge=1, le=64)]
    running: Annotated[int, Field(ge=1, le=10_000)]
    queued: Annotated[int, Field(ge=0, le=100_000)]
    listeners: _Count | None
    requests_per_minute: _Count
    queue_share: Annotated[float, Field(gt=0, le=1)]
    queue_weight: Annotated[float, Field(gt=0, le=10**6)]
    queue_leaves: Annotated[float, Field(ge=0, le=0.9)]
    deadline: Deadline
    max_wait_s: _Seconds
    max_stream_wait_s: _Seconds
    queue_expiry_s: _Seconds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        largest_s = self.max_tracks * self.max_duration_s
        if self.audio_s_per_day is not None and self.audio_s_per_day < largest_s:
            raise ValueError(
                f"audio_s_per_day is {self.audio_s_per_day:g}, but one generation may take "
                f"max_tracks × max_duration_s = {largest_s:g} seconds: raise the first or lower the others"
            )
        longest_s = max(self.max_wait_s, self.max_stream_wait_s)
        if self.queue_expiry_s < longest_s:
            raise ValueError(
                f"queue_expiry_s is {self.queue_expiry_s:g}, below the longest wait of {longest_s:g}: "
                "what is let in would expire before its turn; raise it"
            )
        return self

    def deadline_s(self, duration_s: float) -> float:
        """Seconds from acceptance to the promised end of a generation of that duration."""
        return self.deadline.c0_s + self.deadline.c1 * duration_s


class Tiers(_Strict):
    """All tiers, by name, in the file's order, and the policies beside them."""

    tiers: Annotated[dict[str, Tier], Field(min_length=1)]
    rates: Rates

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        """Each tier knows its name. Whatever has the wrong shape is left for the fields' own checks."""
        if not isinstance(data, Mapping) or not isinstance(data.get("tiers"), Mapping):
            return data
        named = {
            name: {**tier, "name": name} if isinstance(tier, Mapping) and "name" not in tier else tier
            for name, tier in data["tiers"].items()
        }
        return {**data, "tiers": named}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key, tier in self.tiers.items():
            if tier.name != key:
                raise ValueError(f"tier {key!r} has the name {tier.name!r}: remove the field, the key is the name")
        total = math.fsum(tier.queue_share for tier in self.tiers.values())
        if total > _MAX_SHARE_SUM:
            raise ValueError(f"the tiers' queue_share add up to {total:g}: lower them to 1 or less in sum")
        largest = max(self.tiers.values(), key=lambda tier: tier.queue_share)
        if largest.queue_leaves:
            raise ValueError(
                f"tiers.{largest.name}.queue_leaves is {largest.queue_leaves:g}, but no tier has a larger queue_share: "
                "nobody would ever use the slots that it leaves free; set it to 0"
            )
        return self

    @classmethod
    def load(cls, path: Path | str | None = None) -> Tiers:
        """Read the file; left out: the one that comes with the code.

        Raises:
            TiersError: it is not there, is no YAML, or a value is missing, unknown or out of range.
        """
        file = Path(path) if path is not None else TIERS_FILE
        try:
            data = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 a SafeLoader
        except OSError as error:
            message = f"the tiers file {file} cannot be read: {error.strerror}. Correct TUTTI_TIERS_FILE."
            raise TiersError(message) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise TiersError(f"the tiers file {file} is no YAML in UTF-8: {error}") from error
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            lines = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in error.errors())
            raise TiersError(f"the tiers file {file} cannot be used: {lines}") from None

    def __getitem__(self, name: str) -> Tier:
        """The tier of that name.

        Raises:
            TiersError: there is none. Accounts are given only names that exist: an operator took it out of the file.
        """
        try:
            return self.tiers[name]
        except KeyError:
            known = ", ".join(self.tiers)
            raise TiersError(f"no tier {name!r} in the tiers file: add it, or move its accounts to {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.tiers

    @property
    def rules(self) -> dict[str, TierRule]:
        """What the fair queue needs to know of each."""
        return {
            name: TierRule(tier.queue_share, tier.queue_weight, tier.running, tier.queue_leaves)
            for name, tier in self.tiers.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.tiers)


class _Loader(yaml.SafeLoader):
    """YAML whose mappings refuse a key that occurs twice; plain YAML would keep the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key occurs twice", node.start_mark)
        return mapping
