"""Memory that is freed goes back to the system, for whoever makes large things once.

glibc keeps what is freed for later, above all pieces below a limit that it raises by itself up to 32 MB; a model's
matrices are such pieces. While a model is packed, that would add up to as much as the model itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
_PACKING_BYTES = 1 << 20
# Where glibc's own adaptation ends up after large pieces have been freed.
_USUAL_BYTES = 32 << 20


@contextmanager
def handed_back() -> Iterator[None]:
    """Inside, pieces of a megabyte and more go back as soon as they are freed; afterwards malloc is as usual."""
    libc = ctypes.CDLL(None)
    if not all(hasattr(libc, name) for name in ("mallopt", "malloc_trim")):  # another C library has its own ways
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _PACKING_BYTES)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _USUAL_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _USUAL_BYTES)
        libc.malloc_trim(0)
