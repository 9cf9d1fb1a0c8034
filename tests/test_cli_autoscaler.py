"""``tutti autoscaler explain``: the controller's own lines, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.cli import main
from tests.autoscaling.test_ray_policy import NOW, Cluster, ask, policy


@pytest.fixture
def logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """What a controller leaves: a scale-up, a failure, and a line that is cut in the middle."""
    cluster, asked = Cluster(), policy()
    ask(asked, cluster.at(NOW))
    ask(asked, cluster.at(NOW + 1, tiny_of_stream_s=600.0))
    contexts = cluster.at(NOW + 2)
    cluster.tiny.current_num_replicas = None
    asked(contexts)
    told = capsys.readouterr().err
    (tmp_path / "worker-1.err").write_text(f":actor_name:ServeController\n{told}" + told.splitlines()[1][:40])
    (tmp_path / "worker-2.err").write_text('{"event": "track_ended"}\n')
    return tmp_path


def test_each_decision_is_said_in_words(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autoscaler", "explain", "--logs", str(logs)]) == 0
    said = capsys.readouterr().out
    assert "tiny: 1 → 4 replicas (ceiling): more would be needed, but max_replicas allows no more" in said
    assert "backlog 11" in said
    assert "audio-s waiting 600" in said
    assert "all: held where it is, for the policy failed (TypeError" in said


def test_the_same_as_json(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autoscaler", "explain", "--logs", str(logs), "--json", "--model", "tiny", "--last", "1"]) == 0
    (decision,) = json.loads(capsys.readouterr().out)["decisions"]
    found: dict[str, Any] = {name: decision[name] for name in ("model", "replicas_before", "replicas", "reason")}
    assert found == {"model": "tiny", "replicas_before": 1, "replicas": 4, "reason": "ceiling"}


def test_without_a_decision_it_says_where_it_looked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autoscaler", "explain", "--logs", str(tmp_path)]) == 1
    assert f"no decision is in {tmp_path}" in " ".join(capsys.readouterr().err.split())
