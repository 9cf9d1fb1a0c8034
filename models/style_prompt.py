"""What music is to sound like, as it is asked for and as a model hears it. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import InvalidRequestError
from models.style_config import LONGEST_EXCERPT_S, SHORTEST_EXCERPT_S
from models.wire_form import WireForm

if TYPE_CHECKING:
    from models.types import AudioPrompt


@dataclass(frozen=True, slots=True)
class StylePrompt(WireForm):
    """Sound that music is to sound like.

    Attributes:
        excerpt_s: seconds of it that are listened to, from where the track's seed says; None: as the model says.
        streams: residual codes that are listened to, which tell more of it the more there are; None: as the model says.

    Raises:
        InvalidRequestError: naming the parameter that is out of range.
    """

    audio: AudioPrompt
    excerpt_s: float | None = None
    streams: int | None = None

    def __post_init__(self) -> None:
        shortest, longest = SHORTEST_EXCERPT_S, LONGEST_EXCERPT_S
        excerpt_s, streams = self.excerpt_s, self.streams
        if excerpt_s is not None and not (type(excerpt_s) in (int, float) and shortest <= excerpt_s <= longest):
            raise InvalidRequestError(
                f"style_excerpt must be {shortest:g} to {longest:g} s, got {excerpt_s!r}", param="style_excerpt"
            )
        if streams is not None and (type(streams) is not int or streams < 1):
            raise InvalidRequestError(
                f"style_streams must be a whole number of at least 1, got {streams!r}", param="style_streams"
            )
        if self.audio.num_samples < int(shortest * self.audio.sample_rate):
            raise InvalidRequestError(
                f"the style is {self.audio.num_samples / self.audio.sample_rate:g} s long, at least {shortest:g} s are "
                "needed",
                param="style",
            )


@dataclass(frozen=True, slots=True)
class HeardStyle(WireForm):
    """A style as a model hears it; the engine makes it of a `StylePrompt`.

    Attributes:
        windows: codes, little-endian int16 ``[streams, positions]``, for each window of the track.
        streams: how many of each position.
    """

    windows: tuple[bytes, ...]
    streams: int

    @property
    def positions(self) -> int:
        return len(self.windows[0]) // (2 * self.streams)
