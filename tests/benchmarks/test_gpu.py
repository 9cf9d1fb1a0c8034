"""``benchmarks/gpu.sh`` from end to end, on a CPU: what it does is tested here, what it finds is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu.parts import Run
from benchmarks.gpu.run import main


def test_the_whole_run_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--shape", "tiny", "--quick", "--out", str(tmp_path)]) == 0
    result = json.loads(next(tmp_path.glob("gpu-*.json")).read_text())
    assert result["errors"] == {}
    assert result["skipped"] == []
    checks = result["correct.random"]["sdpa/torch/model"]
    assert checks["equal_codes_to_cpu"] == 1
    assert checks["equal_codes_alone"] == 1
    assert checks["streamed_minus_whole"] < 1e-5
    assert result["tiny.listeners"]["finished"] == 2
    assert 0 < result["tiny.shares"]["codec_and_text_share"] < 1
    assert result["tiny.transformers.1"]["ms_per_step"] > 0
    assert "| tiny.sdpa.2 | 2 |" in capsys.readouterr().out


def test_a_part_that_fails_or_has_no_time_loses_no_other(tmp_path: Path) -> None:
    run = Run(tmp_path / "result.json", 100.0)

    def broken() -> None:
        raise RuntimeError("out of memory")

    run.part("broken", 0, broken)
    run.part("too long", 1000, broken)
    run.part("good", 0, lambda: {"x": 1})
    result = json.loads(run.file.read_text())
    assert result["errors"]["broken"][-1] == "RuntimeError: out of memory"
    assert result["skipped"] == ["too long"]
    assert result["good"] == {"x": 1}
