"""Whether an Ogg file is as it was written (RFC 3533): its pages follow one another, and their checksums are right.

Decoders skip a page that is damaged or cut short, and what was in it is missing from the sound without a word.
"""

from __future__ import annotations

import zlib

_HEADER_BYTES = 27
_CHECKSUM = slice(22, 26)
_FIRST = 0x02  # header type: a stream begins
# 120 s in packets of 20 ms are 6,000 pages at most; a page may be 27 bytes, and looking at one takes its time.
_MAX_PAGES = 16_384
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def is_whole(data: bytes) -> bool:
    """Every byte belongs to a page of one stream, or of several side by side, and none was changed."""
    at, goes_on = 0, False
    for _ in range(_MAX_PAGES):
        page = _page(data, at)
        if page is None or (goes_on and page[5] & _FIRST):
            return False
        goes_on = goes_on or not page[5] & _FIRST  # streams side by side begin before any of them goes on
        at += len(page)
        if at == len(data):
            return True
    return False


def checksum(page: bytes) -> int:
    """CRC-32 of polynomial 0x04C11DB7 from 0, most significant bit first; zlib's has its bits the other way round."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")


def _page(data: bytes, at: int) -> bytes | None:
    """The page that begins there; None: there is none, or it is damaged."""
    header = data[at : at + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES or header[:5] != b"OggS\0":
        return None
    body = at + _HEADER_BYTES + header[26]
    end = body + sum(data[at + _HEADER_BYTES : body])
    page = data[at:end]
    if len(page) != end - at:
        return None
    told = int.from_bytes(page[_CHECKSUM], "little")
    return page if checksum(page[:22] + bytes(4) + page[26:]) == told else None
