"""What an uploaded file claims to be, read here, byte by byte, before any decoder sees it.

Only what a decoder needs goes on: tags, pictures, cue sheets and whatever else a file may carry are left behind, and
WAV and FLAC get a header written anew from the values that were checked. A file that is two things at once is, from
then on, one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from api.errors import ApiError, ErrorCode
from api.uploads.ogg import is_whole

Container = Literal["wav", "flac", "mp3", "ogg"]
MIN_RATE, MAX_RATE = 8_000, 192_000
MAX_CHANNELS = 2
_MAX_CHUNKS = 1_000
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_WIDTHS = {_PCM: frozenset({8, 16, 24, 32}), _FLOAT: frozenset({32, 64})}
# The last 14 bytes of a WAVE_FORMAT_EXTENSIBLE sub-format whose first two are a plain tag.
_SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")
# Versions 1, 2 and 2.5 of layer III; kbit/s by index.
_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MP3_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_XING_WITHIN = 44  # 4 bytes of header, 2 of a checksum, 32 of side information, the word
_MP3_SLACK_BYTES = 2 * 1_441  # two of the largest frames: encoders disagree on which ones they count


@dataclass(frozen=True, slots=True)
class Probed:
    """A file that may be decoded.

    Attributes:
        container: what it is; the decoder must come to the same opinion.
        data: what the decoder is given.
        declared_samples: per channel, by its header; None: it does not say.
    """

    container: Container
    data: bytes
    declared_samples: int | None


def probe(data: bytes, max_duration_s: float) -> Probed:
    """Check a file's header.

    Raises:
        ApiError: unsupported_media_type: it is none of the formats read here; unreadable_audio: its header cannot be
            true; audio_too_long: by its own words.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _wav(data, max_duration_s)
    if data[:4] == b"fLaC":
        return _flac(data, max_duration_s)
    if data[:4] == b"OggS":
        return _ogg(data)
    return _mp3(data)


def check_rate_and_channels(sample_rate: int, channels: int) -> None:
    """
    Raises:
        ApiError: unreadable_audio.
    """
    if not 1 <= channels <= MAX_CHANNELS:
        raise unreadable(f"it has {channels} channels: send mono or stereo")
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise unreadable(f"its sample rate is not within {MIN_RATE} to {MAX_RATE} Hz: resample it")


def unreadable(why: str) -> ApiError:
    return ApiError(ErrorCode.UNREADABLE_AUDIO, f"the file can not be read: {why}")


def too_long(max_duration_s: float) -> ApiError:
    message = f"the audio is longer than {max_duration_s:g} s: send a shorter part"
    return ApiError(ErrorCode.AUDIO_TOO_LONG, message, details={"max_duration_s": max_duration_s})


def _wav(data: bytes, max_duration_s: float) -> Probed:
    fmt, samples = _wav_chunks(data)
    if len(fmt) < 16:
        raise unreadable("its fmt chunk is too short")
    tag, channels, rate, byte_rate, frame_bytes, bits = struct.unpack("<HHIIHH", fmt[:16])
    if tag == _EXTENSIBLE:
        if len(fmt) < 40 or fmt[26:40] != _SUBFORMAT:
            raise unreadable("its extended format is not PCM or float: export it as WAV, 16-bit")
        tag = struct.unpack("<H", fmt[24:26])[0]
    if bits not in _WIDTHS.get(tag, ()):
        raise unreadable("its samples are neither PCM of 8 to 32 bits nor float: export it as WAV, 16-bit")
    check_rate_and_channels(rate, channels)
    if frame_bytes != channels * bits // 8 or byte_rate != rate * frame_bytes:
        raise unreadable("the numbers in its fmt chunk contradict each other")
    total = len(samples) // frame_bytes
    _check_total(total, rate, max_duration_s)
    samples = samples[: total * frame_bytes]
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, byte_rate, frame_bytes, bits)
    body = b"".join((b"WAVE", header, struct.pack("<4sI", b"data", len(samples)), samples))
    return Probed("wav", struct.pack("<4sI", b"RIFF", len(body)) + body, total)


def _wav_chunks(data: bytes) -> tuple[bytes, bytes]:
    """The one fmt chunk and the one data chunk."""
    found: dict[bytes, bytes] = {}
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data) or b"data" in found:
            break
        name, size = struct.unpack("<4sI", data[at : at + 8])
        if size > len(data) - at - 8:
            raise unreadable("it ends before it should, or its length was not filled in: export it anew")
        if name in (b"fmt ", b"data"):
            if name in found:
                raise unreadable("it has two fmt chunks")
            found[name] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    if len(found) != 2:
        raise unreadable("a fmt chunk and a data chunk behind it are not there")
    return found[b"fmt "], found[b"data"]


def _flac(data: bytes, max_duration_s: float) -> Probed:
    at, is_last = 4, False
    info = data[8:42]
    if len(info) < 34 or data[4] & 0x7F != 0 or data[5:8] != b"\0\0\x22":
        raise unreadable("its STREAMINFO block is damaged")
    while not is_last:
        if at + 4 > len(data):
            raise unreadable("it ends within its metadata")
        is_last = bool(data[at] & 0x80)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    fields = int.from_bytes(info[10:18], "big")  # RFC 9639, section 8.2
    rate, channels, total = fields >> 44, (fields >> 41 & 7) + 1, fields & (2**36 - 1)
    check_rate_and_channels(rate, channels)
    if not total:
        raise unreadable("its length was not filled in: export it anew")
    _check_total(total, rate, max_duration_s)
    if at >= len(data):
        raise unreadable("there is nothing behind its header")
    return Probed("flac", b"fLaC\x80\0\0\x22" + info + data[at:], total)


def _ogg(data: bytes) -> Probed:
    if len(data) < 28 or data[4] != 0 or not data[5] & 0x02:
        raise unreadable("its first Ogg page is damaged")
    packet = data[27 + data[26] :][:30]
    if packet[:8] == b"OpusHead" and len(packet) >= 19:
        check_rate_and_channels(48_000, packet[9])
    elif packet[:7] == b"\x01vorbis" and len(packet) >= 16:
        check_rate_and_channels(int.from_bytes(packet[12:16], "little"), packet[11])
    else:
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE)
    if not is_whole(data):
        raise unreadable("a part of it is damaged or missing, or it is several files in one; export it anew")
    return Probed("ogg", data, None)


def _mp3(data: bytes) -> Probed:
    at = 0
    for _ in range(4):  # tags are put before tags by careless software
        if data[at : at + 3] != b"ID3" or len(data) < at + 10:
            break
        if max(data[at + 6 : at + 10]) > 0x7F:
            raise unreadable("its ID3 tag is damaged")
        size = sum(byte << shift for byte, shift in zip(data[at + 6 : at + 10], (21, 14, 7, 0), strict=True))
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
    frame = _mp3_frame(data[at : at + 4])
    if frame is None:
        if at:
            raise unreadable("behind its ID3 tag is no MP3")
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE)
    rate, channels, size = frame
    check_rate_and_channels(rate, channels)
    following = data[at + size : at + size + 4]
    # One frame header is 11 set bits, which any file may begin with; a second one at the right place is no accident.
    if len(following) == 4 and _mp3_frame(following) is None and following[:3] != b"TAG":
        raise unreadable("its second MP3 frame is not where the first one ends")
    if len(data) - at + _MP3_SLACK_BYTES < _mp3_declared_bytes(data[at : at + size]):
        raise unreadable("it is shorter than its header says; export it anew")
    return Probed("mp3", data[at:], None)


def _mp3_declared_bytes(frame: bytes) -> int:
    """What Xing's or LAME's header in the first frame says of all of them; 0: nothing."""
    at = max(frame.find(b"Xing", 0, _XING_WITHIN), frame.find(b"Info", 0, _XING_WITHIN))
    flags = int.from_bytes(frame[at + 4 : at + 8], "big") if at > 0 else 0
    if not flags & 2:
        return 0
    at += 12 if flags & 1 else 8
    return int.from_bytes(frame[at : at + 4], "big")


def _mp3_frame(header: bytes) -> tuple[int, int, int] | None:
    """(sample rate, channels, bytes) of a layer III frame; None: it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, bit_rate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version not in _MP3_RATES or rate == 3 or bit_rate in {0, 15}:
        return None
    hertz = _MP3_RATES[version][rate]
    kbits = (_MP3_KBITS_1 if version == 3 else _MP3_KBITS_2)[bit_rate]
    size = (144_000 if version == 3 else 72_000) * kbits // hertz + (header[2] >> 1 & 1)
    return hertz, 1 if header[3] >> 6 == 3 else 2, size


def _check_total(total: int, rate: int, max_duration_s: float) -> None:
    if total < 1:
        raise unreadable("it holds no sound")
    if total > max_duration_s * rate:
        raise too_long(max_duration_s)
