"""Taking drums and bass out of melodies: what that needs is looked at before anything is started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deployments.preflight import describe_models
from deployments.serve_config import load_config
from deployments.settings import AppArgs, ModelArgs
from models.errors import CheckpointError
from models.separator_file import PACKAGES
from tests.deployments.conftest import ConfigWriter
from tests.factories import make_checkpoint
from tests.separation import extra, installed, write_weights

__all__ = ["extra"]
GRACE = {"graceful_shutdown_timeout_s": 60}


def test_a_separator_is_looked_at_before_anything_starts(
    write_config: ConfigWriter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    melody = make_checkpoint(tmp_path / "melody", melody=True)
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    engine = {"separator": str(tmp_path / "955717e8.safetensors")}
    with pytest.raises(CheckpointError, match=r"'tiny' is switched on, but .* extra that runs it lacks demucs"):
        load_config(write_config(checkpoint=melody, engine=engine))
    with pytest.raises(CheckpointError, match=r"it can not follow a melody: leave separator out"):
        load_config(write_config(engine=engine))


@installed
def test_a_separator_is_what_melodies_go_through(extra: None, tmp_path: Path) -> None:
    checkpoint, weights = make_checkpoint(tmp_path / "melody", melody=True), tmp_path / "random.safetensors"
    engine = {"separator": str(weights)}
    args = AppArgs(models={"tune": ModelArgs(checkpoint=str(checkpoint), engine=engine, deployment=GRACE)})
    with pytest.raises(CheckpointError, match=r"random.safetensors is not there: fetch"):
        describe_models(args)
    write_weights(weights)
    assert describe_models(args)["tune"].separation == "htdemucs"
    whole = AppArgs(models={"tune": ModelArgs(checkpoint=str(checkpoint), deployment=GRACE)})
    assert describe_models(whole)["tune"].separation == "none"
