"""The weights of Demucs' htdemucs, which an extra runs: whether both are there, and what network they are of.

The file is one of safetensors, as Demucs' author publishes them (adefossez/HTDemucs, ``955717e8.safetensors``): its
header names the network and what it was built with. Older files (``.th``) are pickles, which are programs: they are
not read. No torch here, and no weight is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from models.catalog_file import REPOSITORY
from models.errors import CheckpointError

NETWORK = "demucs.htdemucs.HTDemucs"
PACKAGES = ("demucs", "julius", "einops")
HOW_TO_INSTALL = "make separation (or pip install '.[separation]')"
_WHENCE = "fetch 955717e8.safetensors of adefossez/HTDemucs from the hub"


@dataclass(frozen=True, slots=True)
class SeparatorFile:
    """
    Attributes:
        settings: keyword arguments of the network.
    """

    path: Path
    settings: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> SeparatorFile:
        """Look at the extra and at the file's header.

        Args:
            path: a relative one starts from the repository's root.

        Raises:
            CheckpointError: saying which of both is missing, or what is wrong with the file.
        """
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise CheckpointError(
                f"separator is set, but the extra that runs it lacks {', '.join(missing)}: {HOW_TO_INSTALL}"
            )
        place = REPOSITORY / path
        if not place.is_file():
            raise CheckpointError(f"separator: {place} is not there: {_WHENCE}, or leave separator out")
        try:
            with safe_open(place, framework="numpy") as stored:
                header = stored.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"separator: {place} is no safetensors file, or was cut short: {_WHENCE}") from error
        return cls(place, _settings(place, header))


def _settings(place: Path, header: Mapping[str, str]) -> Mapping[str, Any]:
    if header.get("klass") != NETWORK or "structure" in header:
        raise CheckpointError(
            f"separator: {place} holds {header.get('klass', 'nothing of Demucs')!r}, not an unquantized {NETWORK}: "
            f"{_WHENCE}"
        )
    try:
        positional, settings = (json.loads(header[name], object_hook=_value) for name in ("args", "kwargs"))
        sources, rate, channels = settings["sources"], settings["samplerate"], settings["audio_channels"]
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"separator: {place} does not say what its network was built with: {_WHENCE}") from error
    plain = not positional and type(rate) is int and rate > 0 and channels in (1, 2)
    if not plain or not {"vocals", "other"} <= set(sources):
        raise CheckpointError(
            f"separator: {place} makes {sources} of {channels} channels at {rate} Hz; vocals and other are needed, of "
            "one or two channels"
        )
    return dict(settings)


def _value(found: dict[str, Any]) -> Any:
    return Fraction(found["numerator"], found["denominator"]) if found.get("_type") == "fraction" else found
