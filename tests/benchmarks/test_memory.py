"""The memory benchmark on the tiny model, in a process of its own; and that tensors are not read twice or kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import memory
from models.checkpoint import load_checkpoint
from models.checkpoint_files import WEIGHTS
from models.errors import CheckpointError
from tests.factories import make_checkpoint


def test_it_reports_weights_keys_and_values_and_what_is_resident(capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        memory.main(["--model", "tiny", "--weights", "int8", "--batch", "2", "--duration", "1", "--prompts", "one"])
        == 0
    )
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    found = result["memory"]
    assert result["within_budget"] is True
    assert result["audio_s"] == pytest.approx(1.5)
    # Two guided streams of 50 and 25 frames and 3 more of delay; keys and values of 4 layers of 256 in bfloat16.
    assert found["kv_bytes"] == 2 * (53 + 28) * 2 * 4 * 256 * 2
    # The text of both, 18 tokens in blocks of 16, is held once.
    assert found["texts_bytes"] == 32 * 2 * 4 * 256 * 2
    assert result["admission_s"] > 0
    assert 10e6 < found["weights_bytes"] < 40e6
    assert found["weights_bytes"] < found["anonymous_bytes"] <= found["rss_bytes"] <= found["peak_rss_bytes"]


def test_tensors_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    state = load_checkpoint(folder).decoder_state
    name = next(iter(state))
    assert state[name] is not state[name]
    assert torch.equal(state[name], state[name])
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="was changed or removed while the model was loading"):
        state[name]


HANDED_BACK = """
import torch
from benchmarks.memory import resident
from models.memory import handed_back

before = resident()["rss_bytes"]
with handed_back():
    made = [torch.ones(1 << 19) for _ in range(200)]  # 2 MB each
    held = resident()["rss_bytes"]
    del made
    print(held - before, resident()["rss_bytes"] - before)
"""


def test_freed_memory_is_handed_back() -> None:
    """In a process of its own: what tests before this one left in this one's heap would be taken first."""
    said = subprocess.run([sys.executable, "-c", HANDED_BACK], capture_output=True, text=True, check=True)
    held, kept = map(int, said.stdout.split())
    assert held > 150e6
    assert kept < 50e6
