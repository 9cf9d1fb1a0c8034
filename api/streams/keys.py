"""How a feed lies in Valkey, and what its doorbells say. Writer and readers agree here.

Each track is one stream, ``feed:{generation}:{position}``. Entry ``{index + 1}-0`` is piece ``index``: fields ``h``
(sample rate, channels, total samples) and ``p`` (the samples). Entries are never trimmed, so a stream is whole exactly
when its length is its last index plus one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from api.cache.client import Cache
from api.streams.pieces import Piece, TrackHeader

LIVE_TTL_S = 3600  # after the writer's last look
FINISHED_TTL_S = 600  # after the generation's end: from then on the stored track is there
MAX_TRACKS = 64  # of one generation, as many as a request can ask for

Entry = tuple[bytes, Mapping[bytes, bytes]]


def channel(generation_id: str) -> str:
    return f"feed:{generation_id}"


def track_key(cache: Cache, generation_id: str, position: int) -> str:
    return cache.key("feed", generation_id, position)


def codes_key(cache: Cache, generation_id: str, position: int) -> str:
    """Of what `finished` keeps."""
    return cache.key("feed", generation_id, position, "codes")


def entry_id(index: int) -> str:
    return f"{index + 1}-0"


def pack_header(header: TrackHeader) -> bytes:
    return b"%d %d %d" % (header.sample_rate, header.channels, header.total_samples)


def unpack(position: int, entry: Entry, here_since: float = 0.0) -> Piece:
    """The piece that an entry of a stream is.

    Args:
        here_since: as the piece has it.
    """
    number, fields = entry
    sample_rate, channels, total_samples = map(int, fields[b"h"].split())
    header = TrackHeader(sample_rate, channels, total_samples)
    return Piece(position, int(number.split(b"-")[0]) - 1, header, fields[b"p"], here_since)


@dataclass(frozen=True, slots=True)
class Ring:
    """What a doorbell says: a track has this many pieces, or the generation's state has this version."""

    kind: bytes
    value: int
    position: int = 0


def ring_state(version: int) -> bytes:
    return b"state %d" % version


def ring_pieces(position: int) -> bytes:
    """What the writer's script completes with the number of pieces."""
    return b"pieces %d " % position


def understand(payload: bytes) -> Ring | None:
    """None: not a doorbell of this version of the code; the poll will see whatever it was about."""
    match payload.split():
        case [b"state", version] if version.isdigit():
            return Ring(b"state", int(version))
        case [b"pieces", position, count] if position.isdigit() and count.isdigit():
            return Ring(b"pieces", int(count), int(position))
    return None
