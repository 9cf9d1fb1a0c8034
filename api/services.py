"""What the routes are given: everything the application was composed of, in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self, cast

from fastapi import Depends
from starlette.requests import HTTPConnection
from structlog.typing import FilteringBoundLogger

from api.auth.principal import Scope
from api.auth.service import AccountService
from api.backend import Backend
from api.cache.bus import Bus
from api.cache.client import Cache
from api.clock import Clock
from api.errors import ApiError
from api.foundation import Foundation
from api.generations.service import GenerationService
from api.limits import Limits
from api.limits.concurrency import Mode
from api.settings import Settings, SettingsError
from api.storage.audio import AudioLibrary
from api.storage.objects import ObjectStore
from api.storage.vault import Vault
from api.store.database import Database
from api.streams.access import AccessChecks
from api.streams.hub import Feed
from api.telemetry.recorder import Telemetry
from api.telemetry.work import WorkCounts
from api.uploads.service import Uploads
from api.webhooks.service import WebhookService
from models.catalog import ModelSpec
from models.errors import ModelNotFoundError


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one application.

    Attributes:
        backends: model id → what makes its audio; the gateway only asks them whether they are ready.
        models: model id → what it is; the same ids as ``backends``.

    Raises:
        SettingsError: no model, ids that do not match, or a default model that is not served.
    """

    backends: Mapping[str, Backend]
    models: Mapping[str, ModelSpec]
    settings: Settings
    telemetry: Telemetry
    log: FilteringBoundLogger
    clock: Clock
    db: Database
    cache: Cache
    bus: Bus
    limits: Limits
    objects: ObjectStore
    vault: Vault
    audio: AudioLibrary
    accounts: AccountService
    generations: GenerationService
    feed: Feed
    access: AccessChecks
    webhooks: WebhookService
    uploads: Uploads

    @classmethod
    def build(
        cls,
        base: Foundation,
        backends: Mapping[str, Backend],
        models: Mapping[str, ModelSpec],
        telemetry: Telemetry,
        log: FilteringBoundLogger,
    ) -> Self:
        """Put a gateway's own parts on the foundation; nothing connects yet."""
        changed = WorkCounts(telemetry).changed
        generations = GenerationService(base.db, base.bus, base.limits, models, base.settings, base.clock, changed)
        return cls(
            backends=backends,
            models=models,
            settings=base.settings,
            telemetry=telemetry,
            log=log,
            clock=base.clock,
            db=base.db,
            cache=base.cache,
            bus=base.bus,
            limits=base.limits,
            objects=base.objects,
            vault=base.vault,
            audio=base.audio,
            accounts=AccountService(base.db, base.settings, base.clock, base.limits, changed),
            generations=generations,
            feed=Feed(base.cache, base.bus, generations, base.audio),
            access=AccessChecks(base.db, base.clock, base.settings.stream_access_check_s, log),
            webhooks=WebhookService(base.db, base.vault, base.settings, base.clock),
            uploads=Uploads(base.db, base.audio, base.settings, base.clock),
        )

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

    def known_refusal(self, connection: HTTPConnection, mode: Mode) -> ApiError | None:
        """Why a create would surely be refused, as far as that is known without asking anybody or reading its body."""
        principal = self.accounts.remembered(connection)
        if principal is None or Scope.GENERATIONS_WRITE not in principal.scopes:
            return None
        tier = self.limits.tier(principal.tier)
        try:
            self.limits.admission.check_unread(principal.account_id, tier, mode, self.models)
        except ApiError as refusal:
            return refusal
        return None


def services_of(connection: HTTPConnection) -> Services:
    return cast(Services, connection.app.state.services)


async def _provided(connection: HTTPConnection) -> Services:
    """A coroutine, since FastAPI calls a plain function in a thread: a detour for every request."""
    return services_of(connection)


Provided = Annotated[Services, Depends(_provided)]
