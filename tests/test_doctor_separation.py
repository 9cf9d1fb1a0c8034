"""What the doctor says of taking drums and bass out of melodies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from api.doctor import Status
from api.doctor_separation import check_separation
from models.separator_file import PACKAGES
from tests.separation import extra, installed, write_weights
from tests.test_doctor import _is

__all__ = ["extra"]


def test_separation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "serve.yaml"
    models = "applications: [{args: {models: {melody: {enabled: %s, engine: {separator: /no/such.safetensors}}}}}]"
    config.write_text(models % "false")
    _is(check_separation(config), Status.OK, "none: melodies are heard as they are", "make separation")
    config.write_text(models % "true")
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    _is(check_separation(config), Status.FAIL, "the extra that runs it lacks demucs", "make separation")
    config.write_text("applications: 3")
    _is(check_separation(config), Status.WARN, "cannot be looked at", "serve.yaml")


@installed
def test_separation_that_is_set_up(tmp_path: Path, extra: None) -> None:
    config, weights = tmp_path / "serve.yaml", tmp_path / "random.safetensors"
    config.write_text(f"applications: [{{args: {{models: {{tune: {{engine: {{separator: {weights}}}}}}}}}}}]")
    _is(check_separation(config), Status.FAIL, "is not there", "adefossez/HTDemucs")
    write_weights(weights)
    _is(check_separation(config), Status.OK, "htdemucs: tune", str(weights))
