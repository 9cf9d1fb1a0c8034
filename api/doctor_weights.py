"""What is kept of weights as the CPU kernel reads them, and whether anything can be."""

from __future__ import annotations

import os

from api.doctor import Finding, Status
from models.errors import TuttiError
from models.packed.cache import FOLDER_VARIABLE, LIMIT_VARIABLE, WeightCache

NAME = "weight cache"


def check_weight_cache() -> Finding:
    """Its size and place."""
    try:
        cache = WeightCache.from_environment()
    except TuttiError as error:
        return Finding(NAME, Status.FAIL, str(error), "unset the variable or mend its value")
    if not cache.limit_bytes:
        return Finding(NAME, Status.OK, f"off ({LIMIT_VARIABLE}=0): every replica packs its own weights at its start")
    taken, limit = cache.num_bytes() / 1e9, cache.limit_bytes / 1e9
    found = f"{len(cache.entries())} files, {taken:.1f} of at most {limit:g} GB in {cache.folder}"
    nearest = next(each for each in (cache.folder, *cache.folder.parents) if each.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return Finding(NAME, Status.OK, found)
    mend = f"set {FOLDER_VARIABLE} to a folder that can be written; until then replicas share no weights"
    return Finding(NAME, Status.WARN, f"{found}, which can not be written to", mend)
