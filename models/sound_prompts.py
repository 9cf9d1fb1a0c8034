"""Music that a request is given: as sound, as codes, or as the tune that a model hears in it. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.errors import InvalidRequestError
from models.wire_form import WireForm


@dataclass(frozen=True, slots=True)
class CodePrompt(WireForm):
    """Music to go on from, as the codes of an earlier track: no round trip through sound, so nothing is lost.

    Attributes:
        codes: little-endian int64 ``[K, frames]``, delays undone, as `AudioChunk.codes` has them; its beginning is
            ``[:, :frames]`` of that.
        num_codebooks: K; 4 are mono, which a stereo model takes for both channels.

    Raises:
        InvalidRequestError: the bytes are no whole frames, or none.
    """

    codes: bytes = field(repr=False)
    num_codebooks: int

    def __post_init__(self) -> None:
        if isinstance(self.num_codebooks, bool) or not isinstance(self.num_codebooks, int) or self.num_codebooks < 1:
            raise InvalidRequestError(
                f"num_codebooks must be a whole number of at least 1, got {self.num_codebooks!r}", param="continue"
            )
        if not self.codes or len(self.codes) % (8 * self.num_codebooks):
            raise InvalidRequestError(
                f"{len(self.codes)} bytes of codes are not whole frames of {self.num_codebooks} codebooks, or none",
                param="continue",
            )

    @property
    def frames(self) -> int:
        return len(self.codes) // (8 * self.num_codebooks)


@dataclass(frozen=True, slots=True)
class AudioPrompt(WireForm):
    """Music as sound: to go on from, where the model's codec turns it into codes, or as a melody to follow.

    Attributes:
        pcm: little-endian float32, channels interleaved.
        channels: 1 or 2. To go on from, stereo is mixed down for a mono model and mono is taken for both channels of a
            stereo one; a melody is mixed down for every model.
        sample_rate: Hz; must be the model's.

    Raises:
        InvalidRequestError: saying what is wrong with it; it names no parameter, for it knows not which it is for.
    """

    pcm: bytes = field(repr=False)
    channels: int
    sample_rate: int

    def __post_init__(self) -> None:
        if self.channels not in (1, 2):
            raise InvalidRequestError(f"the audio has {self.channels!r} channels, not 1 or 2")
        if not self.pcm or len(self.pcm) % (4 * self.channels):
            raise InvalidRequestError(
                f"{len(self.pcm)} bytes of audio are not whole samples of {self.channels} channels, or none"
            )

    @property
    def num_samples(self) -> int:
        """Per channel."""
        return len(self.pcm) // (4 * self.channels)


@dataclass(frozen=True, slots=True)
class Tune(WireForm):
    """A melody as a model hears it; the engine makes it of an `AudioPrompt`.

    Attributes:
        windows: pitch classes (0 is C, 11 is B), a byte each, for each window of the track.
    """

    windows: tuple[bytes, ...]
