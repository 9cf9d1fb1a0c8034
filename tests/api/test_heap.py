"""What a process keeps for good is looked at by the garbage collector once."""

from __future__ import annotations

import subprocess
import sys

_CHECK = """
import gc
from api.heap import settle_heap
before = len(gc.get_objects())
assert gc.get_freeze_count() == 0
settle_heap()
frozen = gc.get_freeze_count()
assert frozen > 0.9 * before, (frozen, before)
assert len(gc.get_objects()) < 0.1 * before
garbage = []
garbage.append(garbage)
settle_heap()  # a second call leaves what came since to the collector
assert gc.get_freeze_count() == frozen
"""


def test_it_is_frozen_once() -> None:
    subprocess.run([sys.executable, "-c", _CHECK], check=True, timeout=60)
