"""The format of encrypted objects: segments of 64 KiB that can be opened one by one, and only as what they are.

STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015) over AES-256-GCM: the nonce of a segment is the object's prefix, the segment's
number and whether it is the last. So a segment that is missing, repeated, moved, or cut off does not open. Every
object has a key of its own, derived by HKDF-SHA256 from the account's data key, a random salt, and the account and
key of the object: what is copied to another name or another account does not open either.

    header (40 bytes): magic 8 · data key's version 4 · salt 16 · nonce prefix 7 · zero 5
    then segments:     65,536 bytes and a tag of 16 each, the last one shorter
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from api.storage.errors import SealBrokenError

SEGMENT_BYTES = 64 * 1024
TAG_BYTES = 16
_MAGIC = b"TUTTIv1\0"
_HEADER = struct.Struct(">8sI16s7s5x")
HEADER_BYTES = _HEADER.size
_MAX_SEGMENTS = 2**32


def num_segments(size: int) -> int:
    """How many segments ``size`` bytes of content take; nothing takes one, so that even its absence is sealed."""
    return max(1, -(-size // SEGMENT_BYTES))


def sealed_size(size: int) -> int:
    """Bytes of the object that holds ``size`` bytes of content."""
    return HEADER_BYTES + size + num_segments(size) * TAG_BYTES


def bound(*names: str | bytes) -> bytes:
    """Names as one value that no other names give: each goes in behind its length."""
    encoded = [name.encode() if isinstance(name, str) else name for name in names]
    return b"".join(len(name).to_bytes(4, "big") + name for name in encoded)


class SegmentCipher:
    """Seals and opens the segments of one object.

    Args:
        header: its first bytes.
        data_key: the account's, 32 bytes, of the version the header names.
        identity: what the object is, by ``bound``: its account and key.
    """

    def __init__(self, header: bytes, data_key: bytes, identity: bytes) -> None:
        _, _, salt, self._prefix = _parse(header)
        info = bound("tutti object", header, identity)
        self._gcm = AESGCM(HKDF(SHA256(), length=32, salt=salt, info=info).derive(data_key))

    def seal(self, content: memoryview, index: int, *, last: bool) -> bytes:
        return self._gcm.encrypt(self._nonce(index, last), content, None)

    def open(self, segment: bytes | memoryview, index: int, *, last: bool) -> bytes:
        """The segment's content.

        Raises:
            SealBrokenError: it is not that segment of that object.
        """
        try:
            return self._gcm.decrypt(self._nonce(index, last), segment, None)
        except InvalidTag as error:
            raise SealBrokenError("a segment of a stored object is not what was sealed") from error

    def _nonce(self, index: int, last: bool) -> bytes:
        return self._prefix + index.to_bytes(4, "big") + bytes([last])


def new_header(key_version: int) -> bytes:
    """A header with fresh randomness: sealing the same content twice gives different objects."""
    return _HEADER.pack(_MAGIC, key_version, secrets.token_bytes(16), secrets.token_bytes(7))


def key_version(header: bytes) -> int:
    """The version of the data key that opens the object.

    Raises:
        SealBrokenError: this is no header.
    """
    return _parse(header)[1]


def seal(content: bytes | memoryview, version: int, data_key: bytes, identity: bytes) -> bytes:
    """A whole object."""
    view = memoryview(content).cast("B")
    count = num_segments(len(view))
    if count > _MAX_SEGMENTS:
        raise ValueError("an object holds at most 256 TiB")
    header = new_header(version)
    cipher = SegmentCipher(header, data_key, identity)
    segments = (
        cipher.seal(view[i * SEGMENT_BYTES : (i + 1) * SEGMENT_BYTES], i, last=i == count - 1) for i in range(count)
    )
    return b"".join((header, *segments))


def unseal(sealed: bytes, data_key: bytes, identity: bytes) -> bytes:
    """The content of a whole object.

    Raises:
        SealBrokenError: it is not that object.
    """
    segments = len(sealed) - HEADER_BYTES
    size = segments - max(1, -(-segments // (SEGMENT_BYTES + TAG_BYTES))) * TAG_BYTES
    if size < 0:
        raise SealBrokenError("a stored object is too short to be one")
    cipher = SegmentCipher(sealed[:HEADER_BYTES], data_key, identity)
    return open_span(cipher, sealed[HEADER_BYTES:], 0, size, size)


def segment_span(start: int, stop: int) -> tuple[int, int]:
    """Where in the object the segments lie that hold the content's bytes ``[start, stop)``; ``start < stop``."""
    first, after = start // SEGMENT_BYTES, -(-stop // SEGMENT_BYTES)
    step = SEGMENT_BYTES + TAG_BYTES
    return HEADER_BYTES + first * step, HEADER_BYTES + after * step


def open_span(cipher: SegmentCipher, sealed: bytes, start: int, stop: int, size: int) -> bytes:
    """The content's bytes ``[start, stop)`` from the segments that ``segment_span`` named.

    Raises:
        SealBrokenError: a segment is missing or is not what was sealed.
    """
    first, count = start // SEGMENT_BYTES, num_segments(size)
    after = first + max(1, -(-(stop - first * SEGMENT_BYTES) // SEGMENT_BYTES))
    content = b"".join(
        cipher.open(segment, index, last=index == count - 1)
        for index, segment in zip(range(first, after), _segments(sealed, after - first), strict=True)
    )
    offset = start - first * SEGMENT_BYTES
    if len(content) < offset + stop - start:
        raise SealBrokenError("a stored object is shorter than it was")
    return content[offset : offset + stop - start]


def _segments(sealed: bytes, count: int) -> Iterator[memoryview]:
    view, step = memoryview(sealed), SEGMENT_BYTES + TAG_BYTES
    if len(sealed) <= (count - 1) * step:
        raise SealBrokenError("a stored object ends early")
    return (view[i * step : (i + 1) * step] for i in range(count))


def _parse(header: bytes) -> tuple[bytes, int, bytes, bytes]:
    if len(header) < HEADER_BYTES or header[: len(_MAGIC)] != _MAGIC:
        raise SealBrokenError("a stored object does not begin as one that was sealed here")
    magic, version, salt, prefix = _HEADER.unpack(header[:HEADER_BYTES])
    return magic, version, salt, prefix
