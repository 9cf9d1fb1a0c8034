"""``tutti generate``: what is taken out of the melody, in this process or by a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from api.cli_order import Order, Use
from api.cli_output import usage_error
from models.types import HTDEMUCS, NO_SEPARATION

if TYPE_CHECKING:
    from models.engine_config import EngineConfig


@dataclass(frozen=True, slots=True)
class Separation:
    """
    Attributes:
        wanted: None: as the server is set up; in this process, htdemucs where there are its weights.
        separator: those weights, for the engine in this process.

    Raises:
        CliError: (from ``of``) a usage error: the options contradict each other.
    """

    wanted: str | None = None
    separator: Path | None = None

    @classmethod
    def of(
        cls, wanted: str | None, separator: Path | None, sounds: Mapping[Use, object], *, has_server: bool
    ) -> Separation:
        """As the options say.

        Args:
            sounds: audio that is referred to, by its use.
        """
        if wanted not in (None, NO_SEPARATION, HTDEMUCS):
            raise usage_error(f"--melody-separation is {NO_SEPARATION} or {HTDEMUCS}, got {wanted!r}")
        if (wanted or separator) and "melody" not in sounds:
            raise usage_error("--melody-separation and --separator say how a melody is heard: give --melody")
        if has_server and separator is not None:
            raise usage_error("--separator is for the engine in this process, a server has its own: leave it out")
        if not has_server and wanted == HTDEMUCS and separator is None:
            raise usage_error(f"{HTDEMUCS} needs its weights here: give --separator FILE")
        return cls(wanted, separator)

    def here(self, order: Order) -> Order:
        """For the engine in this process."""
        return replace(order, request=replace(order.request, melody_separation=self._used))

    def heard(self, order: Order) -> str | None:
        """What is taken out by that; None: there is no melody."""
        return self._used if "melody" in order.sounds else None

    def set_up(self, config: EngineConfig) -> EngineConfig:
        """That engine's."""
        file = self.separator if self._used == HTDEMUCS else None
        return config if file is None else replace(config, separator=str(file.absolute()))

    @property
    def _used(self) -> str:
        return self.wanted or (NO_SEPARATION if self.separator is None else HTDEMUCS)


def told(separation: str | None) -> str:
    """For the line that says what was made."""
    if separation is None:
        return ""
    return ", melody as it is" if separation == NO_SEPARATION else f", melody without drums and bass ({separation})"
