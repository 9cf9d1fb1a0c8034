"""htdemucs with random weights: the published architecture, a sixth as wide. Its package is an extra."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

FOLDER = Path(sys.prefix) / "separation"
"""Where `make pytest` puts the extra, which no other test shall see."""
SOURCES = ("drums", "bass", "other", "vocals")
SETTINGS: dict[str, Any] = {
    "sources": SOURCES,
    "audio_channels": 2,
    "samplerate": 44_100,
    "segment": Fraction(1, 2),  # seconds
    "channels": 8,
    "bottom_channels": 16,
    "t_layers": 1,
    "t_heads": 2,
    "t_hidden_scale": 1.0,
}


def is_installed() -> bool:
    return find_spec("demucs") is not None or (FOLDER / ".installed").is_file()


installed = pytest.mark.skipif(
    not is_installed(), reason="Demucs is not installed: `make pytest` fetches it from a package index"
)


@contextmanager
def importable() -> Iterator[None]:
    """Demucs can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield


@pytest.fixture
def extra() -> Iterator[None]:
    with importable():
        yield


def write_weights(file: Path, header: Mapping[str, str] | None = None, seed: int = 0) -> Path:
    """As Demucs' author publishes them.

    Args:
        header: entries that differ.
    """
    from demucs.htdemucs import HTDemucs

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = HTDemucs(**SETTINGS)
    said = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(SETTINGS, default=_json)}
    save_file({name: each.half() for name, each in network.state_dict().items()}, file, {**said, **(header or {})})
    return file


def _json(value: object) -> Any:
    assert isinstance(value, Fraction)
    return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
