"""What the API needs of a model: the one verb, whether a request would be served now, and by how many."""

from __future__ import annotations

from typing import Protocol

from models.types import Generator


class Backend(Generator, Protocol):
    """One model behind the API: a client of a Serve deployment, an engine in this process, or a test's fake.

    ``generate`` is an async generator: closing it (``aclose``) is how the API cancels, on every path.
    """

    async def ready(self) -> bool | str:
        """True if a request would be served now, otherwise the reason why not, in words for an operator."""
        ...

    async def replicas(self) -> int:
        """How many copies of it are loaded and serve now."""
        ...
