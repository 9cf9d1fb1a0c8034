"""Which audio a client takes: by name and options, or from its Accept header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Query

from api.errors import ApiError, ErrorCode
from api.formats.base import AudioFormat, LiveFormat
from api.formats.rendition import MAX_LOUDNESS_LUFS, MIN_LOUDNESS_LUFS, Rendition

# The first name of each is the one sent back. Order is our preference among what a client likes equally.
MEDIA_TYPES: dict[LiveFormat, tuple[str, ...]] = {
    "wav": ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"),
    "flac": ("audio/flac", "audio/x-flac"),
    "mp3": ("audio/mpeg", "audio/mp3"),
    "opus": ("audio/ogg", "audio/opus"),
    "pcm": ("audio/pcm",),
}

_HEADERS = {
    "ETag": ("string", "Names exactly these bytes; for If-None-Match and If-Range"),
    "Accept-Ranges": ("string", "bytes; none for a file that is too large to be encoded more than once"),
    "Content-Length": ("integer", "Bytes of the body; left out where only encoding it can tell"),
    "X-Sample-Rate": ("integer", "Hz of the file"),
    "X-Channels": ("integer", "1 mono, 2 stereo (interleaved)"),
    "X-Audio-Duration": ("number", "Seconds"),
    "X-Loudness": ("string", "Loudness of the file in LUFS, if one was asked for"),
    "X-Loudness-Gain": ("string", "What was added for it, in dB"),
    "X-Loudness-Limited": ("string", "true: -1 dBFS was reached first, so the file stays below the wanted loudness"),
}


def _success(description: str, **more: tuple[str, str]) -> dict[str, Any]:
    headers = {**_HEADERS, **more}
    return {
        "description": description,
        "content": {types[0]: {"schema": {"type": "string", "format": "binary"}} for types in MEDIA_TYPES.values()},
        "headers": {name: {"schema": {"type": kind}, "description": text} for name, (kind, text) in headers.items()},
    }


AUDIO_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _success("The whole file"),
    206: _success("The part that Range asked for", **{"Content-Range": ("string", "Which part, of how much")}),
    304: {"description": "The bytes that If-None-Match names are still the ones"},
}
"""``responses=`` of routes that answer with ``api.formats.responder.respond``."""


def rendition(
    accept: Annotated[str | None, Header(description="The format, if `format` names none")] = None,
    audio_format: Annotated[
        AudioFormat | None,
        Query(
            alias="format",
            description="wav (16-bit), wav24, wav32f (float), flac (16-bit), flac24, mp3 (192 kbit/s), opus (Ogg, "
            "48 kHz) or pcm (raw little-endian signed 16-bit, channels interleaved); left out: by the Accept header, "
            "else wav",
        ),
    ] = None,
    sample_rate: Annotated[
        int | None, Query(description="44100, 48000 or 96000 Hz, resampled; left out: the track's own")
    ] = None,
    loudness: Annotated[
        float | None,
        Query(
            ge=MIN_LOUDNESS_LUFS,
            le=MAX_LOUDNESS_LUFS,
            allow_inf_nan=False,
            description="Integrated loudness in LUFS (BS.1770-4), by one gain for the whole track; the gain is kept so "
            "low that no sample is above -1 dBFS. Left out: the track's own",
        ),
    ] = None,
) -> Rendition:
    """What file a finished track shall be, from the query and the Accept header.

    Raises:
        ApiError: not_acceptable.
        InvalidRequestError: the format cannot carry the sample rate.
    """
    return Rendition(audio_format or choose_format(accept), sample_rate, loudness)


AudioOptions = Annotated[Rendition, Depends(rendition)]


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
