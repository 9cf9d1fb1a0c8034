"""The API's benchmark in short: everything real runs, every piece arrives, and the last line is the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.api import overload
from benchmarks.api.arrivals import percentiles_ms
from benchmarks.api.client import parse_head, request
from benchmarks.api_load import main


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report") / "api.json"


def test_all_parts(report_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "_GRACE_S", 2.0)  # who was refused comes back for half a minute otherwise
    assert main(["--seconds", "1", "--listeners", "3", "--track", "0.6", "--json", str(report_file)]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report == json.loads(report_file.read_text())

    assert "202" in report["create"]["answers"]
    assert set(report["create"]["answers"]) <= {"202", "503"}  # a busy machine sheds some
    assert report["create"]["max_per_s"] > 0

    (fanout,) = report["fanout"]
    assert fanout["listeners"] == fanout["ended_well"] == 3
    assert fanout["delivered"] == 1.0
    assert fanout["problems"] == []
    assert fanout["same_bytes"] is True

    for kind in ("music", "door"):
        phases = report["overload"][kind]
        assert set(phases["peak"]["answers"]) | set(phases["overload"]["answers"]) <= {"202", "503"}
        let_in = phases["overload"]["retry_after"]["let_in"]
        assert let_in is None or 0 <= let_in <= 1


def test_percentiles() -> None:
    assert percentiles_ms([]) == {}
    assert percentiles_ms([0.001, 0.003]) == {"p50_ms": 2.0, "p99_ms": 3.0, "max_ms": 3.0}


def test_requests_and_heads() -> None:
    assert request("POST", "/x", "key", b"{}").endswith(b"Content-Length: 2\r\n\r\n{}")
    assert parse_head(b"HTTP/1.1 503 Busy\r\nRetry-After: 2") == (503, {b"retry-after": b"2"})


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--listeners", "0"], ["--only", "nothing"]])
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
