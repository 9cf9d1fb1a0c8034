"""Is each backend ready? Asked all at once, none for longer than the settings allow."""

from __future__ import annotations

import asyncio

from api.backend import Backend
from api.services import Services
from models.errors import TuttiError


async def readiness(services: Services) -> dict[str, bool | str]:
    """Model id → True, or the reason why its backend is not ready."""
    timeout_s = services.settings.ready_timeout_s
    answers = await asyncio.gather(*(_ask(backend, timeout_s) for backend in services.backends.values()))
    return dict(zip(services.backends, answers, strict=True))


async def _ask(backend: Backend, timeout_s: float) -> bool | str:
    try:
        async with asyncio.timeout(timeout_s):
            answer = await backend.ready()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except TuttiError as error:
        return str(error)
    return answer or "not ready"
