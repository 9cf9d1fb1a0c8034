"""The first frame of an MP3 stream, written before the rest is known to the encoder.

LAME begins with an empty frame and comes back at the end to fill in how long the track is and how many samples of
padding to cut off. A stream can not go back; but bit rate and length are fixed here, so all of it is known at once.
"""

from __future__ import annotations

import struct

from models.errors import GenerationFailedError

SAMPLE_RATES = (32_000, 48_000)  # MPEG-1 rates at which every frame has the same number of bytes
BITRATE = 192_000  # bits per second
# libsndfile maps 0…1 to 320…32 kbit/s.
COMPRESSION_LEVEL = (320_000 - BITRATE) / (320_000 - 32_000)

FRAME_SAMPLES = 1152
ENCODER_DELAY = 576  # samples of silence LAME puts before the first one
_MONO = 0b11  # channel mode, the top bits of a frame header's fourth byte
_FLAGS = 0x0F  # frames, bytes, seek table and quality are present


def frame_bytes(sample_rate: int) -> int:
    return FRAME_SAMPLES // 8 * BITRATE // sample_rate


def layout(total_samples: int) -> tuple[int, int]:
    """(frames of audio, samples of padding after the last one), as LAME 3.100 lays a track out."""
    padding = FRAME_SAMPLES - (total_samples + ENCODER_DELAY) % FRAME_SAMPLES
    if padding < ENCODER_DELAY:
        padding += FRAME_SAMPLES
    return (total_samples + ENCODER_DELAY + padding) // FRAME_SAMPLES, padding


def with_length(start: bytes, sample_rate: int, total_samples: int) -> bytes:
    """Replace the empty frame at the start of a stream by an Info frame.

    Raises:
        GenerationFailedError: the stream does not begin as expected; then the encoder is not the one that was tried.
    """
    size = frame_bytes(sample_rate)
    if len(start) < size or start[0] != 0xFF or any(start[4:size]):
        raise GenerationFailedError("the MP3 encoder began without an empty frame; this is a bug")
    return info_frame(start[:4], sample_rate, total_samples) + start[size:]


def info_frame(header: bytes, sample_rate: int, total_samples: int) -> bytes:
    """An Info frame (Xing's layout at a constant bit rate) with LAME's extension for gap-less playing.

    Args:
        header: the four bytes of the empty frame.
    """
    frames, padding = layout(total_samples)
    side_info_bytes = 17 if header[3] >> 6 == _MONO else 32
    seek_table = bytes(position * 256 // 100 for position in range(100))
    xing = struct.pack(">4sIII", b"Info", _FLAGS, frames, (frames + 1) * frame_bytes(sample_rate)) + seek_table
    quality = struct.pack(">I", 0)
    # Encoder's name, then 12 bytes of lowpass, gains, flags and rate that players do not need, then 12 + 12 bits.
    lame = b"LAME3.100" + bytes(12) + (ENCODER_DELAY << 12 | padding).to_bytes(3, "big")
    frame = header + bytes(side_info_bytes) + xing + quality + lame
    return frame.ljust(frame_bytes(sample_rate), b"\0")
