"""How tests stream music, and what they read off a gateway afterwards."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from api.services import Services
from tests.api.asgi import TIMEOUT_S, Exchange
from tests.api.fakes import FakeGenerator

BODY = {"prompt": "calm piano", "duration": 2.0, "seed": 1}
FORMATS = ["wav", "flac", "mp3", "opus", "pcm"]


def counted(app: FastAPI, name: str) -> dict[tuple[str, ...], float]:
    """Samples of one metric that are above 0: label values in order of their names → value."""
    services: Services = app.state.services
    text, _ = services.telemetry.registry.render()
    families = text_string_to_metric_families(text.decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(s.labels[key] for key in sorted(s.labels)): s.value for s in samples if s.value > 0}


def outcomes(app: FastAPI) -> list[str]:
    """How the streams ended that were asked for here."""
    return [outcome for _, _, outcome, _ in counted(app, "tutti_requests_total")]


async def closed(generator: FakeGenerator) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await generator.was_closed.wait()


class Stuck(Exchange):
    """A client that takes the headers and no more."""

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()
        await super()._send(message)
