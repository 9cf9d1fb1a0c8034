"""Ogg pages with a serial number that does not depend on chance (RFC 3533).

Encoders draw the number at random, so that several streams can be mixed into one file. A track is alone in its file,
and must be the same bytes whenever it is made.
"""

from __future__ import annotations

import zlib

from models.errors import GenerationFailedError

SERIAL = int.from_bytes(b"TUTT", "little")
_HEADER_BYTES = 27  # and one byte for each segment
_SERIAL_AT, _CHECKSUM_AT, _SEGMENTS_AT = 14, 22, 26
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class SerialFixer:
    """Pages in, the same pages with the fixed serial number out, each as soon as it is whole."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def push(self, data: bytes) -> bytes:
        """The pages that are complete after these bytes.

        Raises:
            GenerationFailedError: the bytes are no Ogg pages; then the encoder is not the one that was tried.
        """
        self._pending += data
        ready = bytearray()
        while (size := self._page_bytes()) is not None:
            ready += _with_serial(self._pending[:size])
            del self._pending[:size]
        return bytes(ready)

    def finish(self) -> bytes:
        """Nothing: every page has left.

        Raises:
            GenerationFailedError: the encoder ended within a page.
        """
        if self._pending:
            raise GenerationFailedError("the Ogg encoder ended within a page; this is a bug")
        return b""

    def _page_bytes(self) -> int | None:
        if len(self._pending) < _HEADER_BYTES:
            return None
        if self._pending[:5] != b"OggS\0":
            raise GenerationFailedError("the Ogg encoder wrote something that is no page; this is a bug")
        segments = self._pending[_SEGMENTS_AT]
        if len(self._pending) < _HEADER_BYTES + segments:
            return None
        size = _HEADER_BYTES + segments + sum(self._pending[_HEADER_BYTES : _HEADER_BYTES + segments])
        return size if len(self._pending) >= size else None


def _with_serial(page: bytearray) -> bytearray:
    page[_SERIAL_AT : _SERIAL_AT + 4] = SERIAL.to_bytes(4, "little")
    page[_CHECKSUM_AT : _CHECKSUM_AT + 4] = bytes(4)
    page[_CHECKSUM_AT : _CHECKSUM_AT + 4] = checksum(bytes(page)).to_bytes(4, "little")
    return page


def checksum(data: bytes) -> int:
    """Ogg's CRC-32: zlib's polynomial, but bits not mirrored, and neither start nor end inverted."""
    mirrored = zlib.crc32(data.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
