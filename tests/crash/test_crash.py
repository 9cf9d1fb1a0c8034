"""The short form of the crash harness: parts of a real platform die under real clients, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.crash.run import Plan, run
from tests.factories import make_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_nothing_is_lost_or_made_twice_while_parts_die(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    plan = Plan(operations=40, faults=6, clients=4, checkpoint=str(checkpoint))
    report = asyncio.run(run(plan, tmp_path))
    assert report["findings"] == []
    assert report["operations"] >= plan.operations
    assert sum(report["faults"].values()) == plan.faults
