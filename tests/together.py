"""Which tests stay together in one worker of pytest-xdist: those of a file, and those of all whole platforms."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

PLATFORMS = "platform"
_ROOT = Path(__file__).resolve().parent.parent
_WHOLE = ("tests/deployments/", "tests/crash/", "tests/test_cli_interrupt.py")
_RAY = "pytest.mark.ray"


def unit_of(nodeid: str) -> str:
    """The file of a test, or ``PLATFORMS`` for those that start Ray, or many processes: one after the other."""
    return _unit_of(nodeid.partition("::")[0])


@cache
def _unit_of(file: str) -> str:
    path = _ROOT / file
    whole = file.startswith(_WHOLE) or (path.is_file() and _RAY in path.read_text(encoding="utf-8"))
    return PLATFORMS if whole else file


class TogetherScheduling(LoadScopeScheduling):
    """A worker takes one unit after the other; ids are the same in every worker, so the files can be asked."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
