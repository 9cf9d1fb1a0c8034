"""The short form of the loss of a node: whatever was being made there is made on the other one, and nothing twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.crash.two_nodes import Plan, run
from tests.factories import make_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_nothing_accepted_is_lost_with_a_node(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    report = asyncio.run(run(Plan(checkpoint=str(checkpoint)), tmp_path))
    assert report["findings"] == []
    assert report["taken_over"] >= 1
    assert report["accepted"] >= report["leased_when_killed"] >= 2
