"""Peers by name, and what becomes of one that is missing or does not run: a line of the report, never our own error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from benchmarks.formats import EXACT, PRECISIONS
from benchmarks.peers.audiocraft_import import PeerMissingError
from benchmarks.peers.audiocraft_lm import Audiocraft
from benchmarks.peers.static_batching import StaticBatching
from benchmarks.peers.streamer import Streamer
from benchmarks.peers.transformers_generate import Transformers
from benchmarks.serving import Server
from benchmarks.sides import Side
from benchmarks.weights import Weights

SIDES: Mapping[str, Callable[[Weights, torch.dtype], Side]] = {
    "transformers": Transformers,
    "transformers-static": lambda weights, dtype: Transformers(weights, dtype, {"cache_implementation": "static"}),
    "audiocraft": Audiocraft,
    "streamer": Streamer,
}
"""They make a set of streams together."""

SERVERS: Mapping[str, Callable[[Weights, torch.dtype], Server]] = {
    "window": lambda weights, dtype: StaticBatching(Transformers(weights, dtype)),
    "streamer": Streamer,
}
"""They serve arrivals."""

ONE_AT_A_TIME = ("streamer",)
"""Nothing is shared between streams: a set of them says no more than one."""

# What other people's code raises when it does not run with these versions; each is shown in the report.
PEER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class PeerName:
    """``family-precision``."""

    family: str
    precision: str

    def __str__(self) -> str:
        return f"{self.family}-{self.precision}"

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[self.precision]


def known(families: Mapping[str, object]) -> list[str]:
    """All names of these families."""
    return [f"{family}-{precision}" for family in families for precision in PRECISIONS]


def parse_peers(text: str, families: Mapping[str, object]) -> tuple[PeerName, ...]:
    """Names with commas between them; "none" is nobody.

    Raises:
        ValueError: naming what is not known, and all that is.
    """
    if text == "none":
        return ()
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in known(families):
            raise ValueError(f"no peer {name!r}: give some of {', '.join(known(families))}, or none")
    return tuple(PeerName(*name.rsplit("-", 1)) for name in names)


def default_peers(weights_format: str) -> str:
    """transformers in the precision that is nearest to ours."""
    return f"transformers-{EXACT if weights_format == EXACT else 'bf16'}"


def reason(error: Exception) -> str:
    """Why a peer is not in the table: one line."""
    if isinstance(error, PeerMissingError):
        return f"not installed: {error}"
    lines: Sequence[str] = str(error).strip().splitlines() or [""]
    return f"does not run: {type(error).__name__}: {lines[0]}"
