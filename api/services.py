"""What the routes are given: everything the application was composed of, in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from structlog.typing import FilteringBoundLogger

from api.backend import Backend
from api.metrics import Metrics
from api.settings import Settings, SettingsError
from models.catalog import ModelSpec
from models.errors import ModelNotFoundError


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one application.

    Attributes:
        backends: model id → what makes its audio.
        models: model id → what it is; the same ids as ``backends``.

    Raises:
        SettingsError: no model, ids that do not match, or a default model that is not served.
    """

    backends: Mapping[str, Backend]
    models: Mapping[str, ModelSpec]
    settings: Settings
    metrics: Metrics
    log: FilteringBoundLogger

    def __post_init__(self) -> None:
        if not self.models:
            raise SettingsError("no model is served: enable one in serve_config.yaml")
        if set(self.backends) != set(self.models):
            raise SettingsError(f"backends {sorted(self.backends)} and models {sorted(self.models)} must match")
        default = self.settings.default_model
        if default is not None and default not in self.models:
            raise SettingsError(f"TUTTI_DEFAULT_MODEL is {default!r}, but served are: {', '.join(self.models)}")

    @property
    def default_model(self) -> str:
        return self.settings.default_model or next(iter(self.models))

    def model(self, model_id: str | None) -> tuple[str, ModelSpec]:
        """The id and description of the model that was asked for, or of the default one.

        Raises:
            ModelNotFoundError: naming the models there are.
        """
        wanted = model_id or self.default_model
        if wanted not in self.models:
            raise ModelNotFoundError(f"no such model is served here; there are: {', '.join(self.models)}")
        return wanted, self.models[wanted]


def services_of(request: Request) -> Services:
    return cast(Services, request.app.state.services)


Provided = Annotated[Services, Depends(services_of)]
