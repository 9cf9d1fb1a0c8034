"""All of webhooks in one value: what the routes, the outbox and the worker are given."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from api.clock import Clock
from api.settings import Settings
from api.storage.vault import Vault
from api.store.database import Database
from api.webhooks.courier import Courier
from api.webhooks.deliverer import Deliverer
from api.webhooks.endpoints import Endpoints
from api.webhooks.expand import Expander, Render
from api.webhooks.guard import Guard, Resolve
from api.webhooks.keyring import Keyring
from api.webhooks.leases import LEASE_MARGIN_S
from api.webhooks.log import DeliveryLog
from api.webhooks.sender import Sender
from api.webhooks.targets import Rules


class WebhookService:
    """Composed without I/O.

    Args:
        resolve: names → addresses; left out: the operating system's resolver.
        tls: what to trust; left out: the operating system's certificates.

    Attributes:
        endpoints: what an account registered.
        log: what was sent, replays, tests.
    """

    def __init__(
        self,
        db: Database,
        vault: Vault,
        settings: Settings,
        clock: Clock,
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        rules = Rules(allow_http=settings.webhook_allow_http, allow_private=settings.webhook_allow_private)
        self._db = db
        self._settings = settings
        self._clock = clock
        self._guard = Guard(rules, resolve)
        self._keyring = Keyring(vault, clock)
        sender = Sender(self._guard, clock, settings.webhook_timeout_s, tls)
        self._courier = Courier(db, self._keyring, sender, clock, random.Random())
        self.endpoints = Endpoints(db, vault, self._keyring, self._guard, clock)
        self.log = DeliveryLog(db, self._courier, clock, settings.webhook_timeout_s + LEASE_MARGIN_S)

    async def check_url(self, url: str) -> str:
        """A generation's ``webhook_url`` in its normal form: store that.

        Raises:
            ApiError: webhook_url_refused, param "webhook_url".
        """
        return await self.endpoints.check_url(url, "webhook_url")

    def expander(self, render: Render, ring: Callable[[], None] | None = None) -> Expander:
        """The outbox's handler of ``webhook.event``.

        Args:
            render: a generation's public JSON by its id.
            ring: called when deliveries were added, such as a deliverer's ``wake``.
        """
        return Expander(self._db, self._keyring, render, self._clock, ring)

    def deliverer(self, log: FilteringBoundLogger) -> Deliverer:
        """What a worker runs."""
        return Deliverer(self._db, self._courier, self._settings, self._clock, log)

    async def close(self) -> None:
        self._guard.close()
