"""Which audio format a client takes, from its Accept header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from api.errors import ApiError, ErrorCode
from api.formats.audio import LiveFormat

# The first name of each is the one sent back. Order is our preference among what a client likes equally.
MEDIA_TYPES: dict[LiveFormat, tuple[str, ...]] = {
    "wav": ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"),
    "flac": ("audio/flac", "audio/x-flac"),
    "mp3": ("audio/mpeg", "audio/mp3"),
    "opus": ("audio/ogg", "audio/opus"),
    "pcm": ("audio/pcm",),
}


def choose_format(accept: str | None) -> LiveFormat:
    """The format the header likes best; WAV if it says nothing.

    Raises:
        ApiError: not_acceptable, naming the formats there are.
    """
    if accept is None or not accept.strip():
        return "wav"
    ranges = dict(_parse_range(part) for part in accept.split(",") if part.strip())
    liked = {name: _quality(ranges, types) for name, types in MEDIA_TYPES.items()}
    best = max(liked, key=lambda name: liked[name])
    if liked[best] <= 0:
        offered = [types[0] for types in MEDIA_TYPES.values()]
        message = f"none of {', '.join(offered)} is in the Accept header: add one, or name the format in the body"
        raise ApiError(ErrorCode.NOT_ACCEPTABLE, message, details={"available": offered})
    return best


def _parse_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            return name, _number(value)
    return name, 1.0


def _number(text: str) -> float:
    """A quality between 0 and 1; one that is no number counts as 0: it asks for nothing we could be sure of."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value <= 1 else 0.0


def _quality(ranges: dict[str, float], media_types: tuple[str, ...]) -> float:
    """The most specific range decides: a format that is named by any of its names is not judged by a wildcard."""
    named = [ranges[media_type] for media_type in media_types if media_type in ranges]
    return max(named) if named else ranges.get("audio/*", ranges.get("*/*", 0.0))
