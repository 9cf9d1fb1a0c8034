"""Packed weights from the cache, or packed now and kept there; without a usable cache a model starts all the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from models.packed.cache import WeightCache
from models.packed.file import DamagedFileError, PackedWriter, open_packed

logger = logging.getLogger(__name__)


def mapped_weights(cache: WeightCache, key: str) -> Mapping[str, Tensor] | None:
    """What was kept under that key, mapped; None: nothing, or nothing of use."""
    file = cache.file(key)
    try:
        tensors = open_packed(file)
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        logger.warning("packed weights are damaged and made anew: %s: %s", file, error)
        with suppress(OSError):
            file.unlink()
        return None
    except OSError as error:
        logger.warning("packed weights can not be read: %s", error)
        return None
    cache.used(file)
    logger.info("weights are mapped from %s", file)
    return tensors


def kept_weights(
    cache: WeightCache, key: str, pack: Callable[[], Iterator[tuple[str, Tensor]]], unchanged: Callable[[], bool]
) -> Mapping[str, Tensor] | None:
    """Pack, keep and map; if another process is at it, wait for what it makes.

    Args:
        pack: makes the tensors, one after the other.
        unchanged: whether the checkpoint is still the one of that key; asked when all has been read.

    Returns:
        None: they could not be kept, and one line of the log says why; the caller packs for itself.

    Raises:
        CheckpointError: from ``pack``.
    """
    file = cache.file(key)
    try:
        with cache.writing(file) as stream:
            if stream is not None:
                _write(PackedWriter(stream, cache.room()), pack())
                if not unchanged():
                    raise OSError(f"the checkpoint was changed while it was read, so {file.name} would be a mixture")
    except OSError as error:
        logger.warning("packed weights are not kept, so this replica has its own: %s", error)
        return None
    _tidy(cache, file)
    return mapped_weights(cache, key)


def _write(writer: PackedWriter, tensors: Iterator[tuple[str, Tensor]]) -> None:
    for name, tensor in tensors:
        writer.add(name, tensor)
    writer.finish()


def _tidy(cache: WeightCache, newest: Path) -> None:
    try:
        removed = cache.prune(newest)
    except OSError as error:
        logger.warning("packed weights that are no longer needed can not be removed: %s", error)
        return
    if removed:
        logger.info("packed weights were removed: %s", ", ".join(file.name for file in removed))
