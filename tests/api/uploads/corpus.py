"""Files that no upload may get through with, and why: name → (bytes, the code they are refused with).

Each is a thing that somebody sends on purpose, or that a broken program writes.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import soundfile

from api.uploads.ogg import checksum
from tests.api.uploads.conftest import silence, sound

UNSUPPORTED, UNREADABLE, TOO_LONG = "unsupported_media_type", "unreadable_audio", "audio_too_long"


def wav(
    *, tag: int = 1, channels: int = 1, rate: int = 32_000, bits: int = 16, data: bytes = b"\0\x20" * 3_200,
    declared: int | None = None, frame_bytes: int | None = None, byte_rate: int | None = None, extra: bytes = b"",
    before: bytes = b"",
) -> bytes:  # fmt: skip
    """A WAV file with any lie in its header."""
    frame = channels * bits // 8 if frame_bytes is None else frame_bytes
    per_second = rate * frame if byte_rate is None else byte_rate
    fmt = struct.pack("<HHIIHH", tag, channels, rate, per_second % 2**32, frame, bits) + extra
    size = len(data) if declared is None else declared
    body = b"WAVE" + before + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def extensible(guid: bytes) -> bytes:
    return struct.pack("<HHI", 22, 16, 0) + guid


def floats(*values: float) -> bytes:
    return wav(tag=3, bits=32, data=np.array(values * 400, "<f4").tobytes())


def flac(file: bytes | None = None, **fields: int) -> bytes:
    """A FLAC file whose STREAMINFO says something else."""
    data = bytearray(file or sound("FLAC"))
    word = int.from_bytes(data[18:26], "big")
    for name, (shift, width) in {"rate": (44, 20), "channels": (41, 3), "total": (0, 36)}.items():
        if name in fields:
            word = word & ~((2**width - 1) << shift) | fields[name] << shift
    data[18:26] = word.to_bytes(8, "big")
    return bytes(data)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "x" * 1_000)
    return file.getvalue()


def opus_channels(channels: int) -> bytes:
    data = bytearray(sound("OGG", "OPUS"))
    data[28 + 9] = channels
    return bytes(data)


def aiff() -> bytes:
    return sound("AIFF", "PCM_16")


def other(container: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1_000), 8_000, format=container, subtype=subtype)
    return file.getvalue()


def damaged(file: bytes, part: float) -> bytes:
    """Some bytes of it are others."""
    at = int(len(file) * part)
    return file[:at] + bytes(byte ^ 0x55 for byte in file[at : at + 100]) + file[at + 100 :]


def cut_in_its_last_page(file: bytes) -> bytes:
    """As a line leaves it that breaks."""
    return file[: (file.rindex(b"OggS") + len(file)) // 2]


def half(file: bytes) -> bytes:
    return file[: len(file) // 2]


def empty_page() -> bytes:
    """Ogg's smallest, and nothing is wrong with it."""
    page = b"OggS" + bytes(23)
    return page[:22] + checksum(page).to_bytes(4, "little") + page[26:]


id3 = b"ID3\x04\0\0\0\0\x01\0" + bytes(128)

CORPUS: dict[str, tuple[Callable[[], bytes], str]] = {
    # Nothing that is read here.
    "empty": (lambda: b"", UNSUPPORTED),
    "one byte": (lambda: b"R", UNSUPPORTED),
    "text": (lambda: b"hello, this is no music" * 50, UNSUPPORTED),
    "json": (lambda: b'{"prompt": "x"}', UNSUPPORTED),
    "html": (lambda: b"<html><script>alert(1)</script>" * 20, UNSUPPORTED),
    "zip": (zipped, UNSUPPORTED),
    "png": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), UNSUPPORTED),
    "elf": (lambda: b"\x7fELF" + bytes(100), UNSUPPORTED),
    "mp4": (lambda: b"\0\0\0\x20ftypisom" + bytes(100), UNSUPPORTED),
    "noise": (lambda: np.random.default_rng(0).bytes(5_000), UNSUPPORTED),
    "zeros": (lambda: bytes(5_000), UNSUPPORTED),
    # Formats that libsndfile would read, and that nobody needs.
    "aiff": (aiff, UNSUPPORTED),
    "au": (lambda: other("AU", "PCM_16"), UNSUPPORTED),
    "w64": (lambda: other("W64", "PCM_16"), UNSUPPORTED),
    "rf64": (lambda: other("RF64", "PCM_16"), UNSUPPORTED),
    "caf": (lambda: other("CAF", "ALAC_16"), UNSUPPORTED),
    "sds": (lambda: other("SDS", "PCM_16"), UNSUPPORTED),
    "ogg of something else": (lambda: b"OggS\0\x02" + bytes(20) + b"\x01\x1e" + b"\x80theora" + bytes(23), UNSUPPORTED),
    # WAV: tags that are no plain samples.
    **{
        f"wav tag {tag:#x}": (lambda tag=tag: wav(tag=tag, bits=16), UNREADABLE)  # type: ignore[misc]
        for tag in (0, 2, 6, 7, 0x11, 0x31, 0x50, 0x55, 0x161, 0xF1AC, 0xFFFF)
    },
    "wav extensible of mu-law": (
        lambda: wav(tag=0xFFFE, extra=extensible(b"\x07\0" + bytes.fromhex("000000001000800000aa00389b71"))), UNREADABLE
    ),
    "wav extensible of ambisonics": (
        lambda: wav(tag=0xFFFE, extra=extensible(b"\x01\0" + bytes.fromhex("0000210700d31186446c8c1ca0000000")[:14])),
        UNREADABLE,
    ),
    "wav extensible cut short": (lambda: wav(tag=0xFFFE), UNREADABLE),
    # WAV: numbers that cannot be.
    "wav without channels": (lambda: wav(channels=0), UNREADABLE),
    "wav of 3 channels": (lambda: wav(channels=3, data=bytes(600)), UNREADABLE),
    "wav of 65,535 channels": (lambda: wav(channels=65_535, frame_bytes=2), UNREADABLE),
    "wav at 0 Hz": (lambda: wav(rate=0), UNREADABLE),
    "wav at 1 Hz": (lambda: wav(rate=1), UNREADABLE),
    "wav at 4 GHz": (lambda: wav(rate=2**32 - 1), UNREADABLE),
    "wav of 0 bits": (lambda: wav(bits=0), UNREADABLE),
    "wav of 12 bits": (lambda: wav(bits=12, frame_bytes=2), UNREADABLE),
    "wav of 16-bit floats": (lambda: wav(tag=3, bits=16), UNREADABLE),
    "wav with frames of 0 bytes": (lambda: wav(frame_bytes=0), UNREADABLE),
    "wav with frames of 64 kB": (lambda: wav(frame_bytes=65_535), UNREADABLE),
    "wav with another byte rate": (lambda: wav(byte_rate=7), UNREADABLE),
    "wav without samples": (lambda: wav(data=b""), UNREADABLE),
    "wav of half a sample": (lambda: wav(data=b"x"), UNREADABLE),
    "wav that declares 4 GiB": (lambda: wav(declared=2**32 - 1), UNREADABLE),
    "wav that declares one byte more": (lambda: wav(declared=6_401), UNREADABLE),
    "wav cut in the middle": (lambda: sound()[:20_000], UNREADABLE),
    "wav cut in its header": (lambda: sound()[:30], UNREADABLE),
    "wav of a header alone": (lambda: sound()[:12], UNREADABLE),
    "wav with two fmt chunks": (
        lambda: wav(before=b"fmt " + struct.pack("<IHHIIHH", 16, 0x55, 1, 8_000, 16_000, 2, 16)), UNREADABLE
    ),
    "wav with data first": (lambda: b"RIFF\x30\0\0\0WAVEdata\x10\0\0\0" + bytes(32), UNREADABLE),
    "wav of ten thousand chunks": (lambda: wav(before=b"junk\0\0\0\0" * 10_000), UNREADABLE),
    "wav of not-a-number": (lambda: floats(0.1, float("nan")), UNREADABLE),
    "wav of infinity": (lambda: floats(float("inf")), UNREADABLE),
    "wav of minus infinity": (lambda: floats(0.0, float("-inf")), UNREADABLE),
    "wav of 1e30": (lambda: floats(1e30), UNREADABLE),
    "wav of signalling not-a-number": (
        lambda: wav(tag=3, bits=32, data=struct.pack("<I", 0x7FA00000) * 400), UNREADABLE
    ),
    "wav of doubles beyond floats": (lambda: wav(tag=3, bits=64, data=np.full(400, 1e300).tobytes()), UNREADABLE),
    "wav that is too long": (lambda: wav(rate=8_000, bits=8, data=bytes(8_000 * 11)), TOO_LONG),
    "wav of silence": (lambda: wav(data=bytes(6_400)), UNREADABLE),
    "wav of what nobody hears": (lambda: wav(data=b"\3\0" * 3_200), UNREADABLE),
    # FLAC.
    "flac of silence": (lambda: silence("FLAC", "PCM_16", 1), UNREADABLE),
    "flac cut in its header": (lambda: sound("FLAC")[:20], UNREADABLE),
    "flac cut in its metadata": (lambda: sound("FLAC")[:44], UNREADABLE),
    "flac of a header alone": (lambda: b"fLaC", UNREADABLE),
    "flac cut in the middle": (lambda: sound("FLAC")[:-3_000], UNREADABLE),
    "flac at 0 Hz": (lambda: flac(rate=0), UNREADABLE),
    "flac of 8 channels": (lambda: flac(channels=7), UNREADABLE),
    "flac that declares two channels of one": (lambda: flac(channels=1), UNREADABLE),
    "flac that declares too much": (lambda: flac(total=2**36 - 1), TOO_LONG),
    "flac with metadata without end": (
        lambda: b"fLaC\0\0\0\x22" + sound("FLAC")[8:42] + b"\x04\xff\xff\xff", UNREADABLE
    ),
    "flac of zeros": (lambda: sound("FLAC")[:90] + bytes(5_000), UNREADABLE),
    "flac bomb": (lambda: silence("FLAC", "PCM_16", 120), TOO_LONG),
    "flac bomb of unknown length": (
        lambda: flac(silence("FLAC", "PCM_16", 120), total=0), UNREADABLE
    ),
    # Ogg.
    "ogg cut in its first page": (lambda: sound("OGG", "VORBIS")[:20], UNREADABLE),
    "ogg of a header alone": (lambda: sound("OGG", "OPUS")[:47], UNREADABLE),
    "ogg cut behind its headers": (lambda: sound("OGG", "OPUS")[:300], UNREADABLE),
    "opus cut in its last page": (lambda: cut_in_its_last_page(sound("OGG", "OPUS", seconds=3)), UNREADABLE),
    "vorbis cut in its last page": (lambda: cut_in_its_last_page(sound("OGG", "VORBIS", seconds=3)), UNREADABLE),
    "opus damaged near its end": (lambda: damaged(sound("OGG", "OPUS", seconds=3), 0.9), UNREADABLE),
    "vorbis damaged in the middle": (lambda: damaged(sound("OGG", "VORBIS", seconds=3), 0.5), UNREADABLE),
    "one opus behind another": (lambda: 2 * sound("OGG", "OPUS"), UNREADABLE),
    "ogg of a million pages": (lambda: sound("OGG", "OPUS")[:47] + empty_page() * 30_000, UNREADABLE),
    "opus without channels": (lambda: opus_channels(0), UNREADABLE),
    "opus of 255 channels": (lambda: opus_channels(255), UNREADABLE),
    "vorbis bomb": (lambda: silence("OGG", "VORBIS", 600, 8_000), TOO_LONG),
    "opus bomb": (lambda: silence("OGG", "OPUS", 600), TOO_LONG),
    # MP3.
    "id3 and nothing": (lambda: id3, UNREADABLE),
    "id3 and html": (lambda: id3 + b"<html><script>alert(1)</script>" * 30, UNREADABLE),
    "id3 and wav": (lambda: id3 + sound(), UNREADABLE),
    "id3 longer than the file": (lambda: b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(100), UNREADABLE),
    "id3 with a size that is none": (lambda: b"ID3\x04\0\0\xff\xff\xff\xff" + bytes(100), UNREADABLE),
    "utf-16 text": (lambda: "some text".encode("utf-16") * 30, UNSUPPORTED),
    "one mp3 frame header and noise": (lambda: b"\xff\xfb\x90\x00" + bytes(range(256)) * 20, UNREADABLE),
    "mp3 cut in the middle": (lambda: half(sound("MP3", "MPEG_LAYER_III", seconds=4)), UNREADABLE),
    "mp3 bomb": (lambda: silence("MP3", "MPEG_LAYER_III", 100), TOO_LONG),
}  # fmt: skip
