"""Triton's interpreter, which ``tests/conftest.py`` asks for: kernels run on a CPU, operation by operation."""

from __future__ import annotations

import importlib.util
import sys

import pytest

HAS_TRITON = importlib.util.find_spec("triton") is not None
NEEDS_TRITON = pytest.mark.skipif(
    not HAS_TRITON,
    reason="the triton package is not installed: pip install --no-deps triton, its interpreter is enough",
)


def hide_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed."""
    monkeypatch.setitem(sys.modules, "triton", None)
    for module in [name for name in sys.modules if name.startswith("models.kernels.triton.")]:
        monkeypatch.delitem(sys.modules, module)
