"""Waking many waiters at once, none of whom can miss it."""

from __future__ import annotations

import asyncio


class Signal:
    """Take ``turn`` first, then look, then wait for that turn: what changes in between ends the wait at once."""

    def __init__(self) -> None:
        self._turn = asyncio.Event()

    @property
    def turn(self) -> asyncio.Event:
        """Set at the next ``ring``."""
        return self._turn

    def ring(self) -> None:
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()
