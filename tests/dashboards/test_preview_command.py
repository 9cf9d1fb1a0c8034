"""``tutti slo preview``: what it writes, what it says, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.cli import main
from dashboards.panels import DASHBOARDS
from tests.dashboards.answers import EMPTY, TARGETS, answering, refusal, success

NOBODY = {"": success(EMPTY), "targets": success(TARGETS), "query_exemplars": success([])}


def test_a_page_of_a_server_that_knows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    with answering(NOBODY) as url:
        assert main(["slo", "preview", "--prometheus", url, "--out", str(out)]) == 0
    said = capsys.readouterr()
    panels = len(list(DASHBOARDS[0].panels()))
    assert said.out.strip() == f"{out}: {panels} panels, {panels} without data"
    assert "slo-overview: Burn rate: No data" in said.err
    assert out.read_text().count('class="empty"') == panels


def test_all_dashboards_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    with answering({**NOBODY, "query": refusal("it is tired")}) as url:
        assert main(["slo", "preview", "--prometheus", url, "--dashboard", "all", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(out)
    assert told["panels"] == sum(len(list(each.panels())) for each in DASHBOARDS)
    assert {each["dashboard"] for each in told["lacking"]} == {each.name for each in DASHBOARDS}
    assert "it is tired" in {each["reason"] for each in told["lacking"]}


def test_models_and_tiers_are_asked_for(tmp_path: Path) -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    out = tmp_path / "page.html"
    options = ["--model", "tiny", "--model", "small-v1.5", "--tier", "pro", "--since", "1h"]
    with answering(NOBODY, asked) as url:
        assert main(["slo", "preview", "--prometheus", url, "--out", str(out), *options]) == 0
    queries = [parameters["query"] for _, parameters in asked if "query" in parameters]
    assert any('model=~"tiny|small-v1.5",tier=~"pro"' in query for query in queries)
    assert any("[3600000ms]" in query for query in queries)
    assert "tiny|small-v1.5" in out.read_text()


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--since", "soon"], "like 15m"),
        (["--dashboard", "weather"], "slo-overview"),
        (["--tier", 'a"} or vector(1) #'], "letters, digits"),
        (["--model", ""], "letters, digits"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(
    options: list[str], advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    out = tmp_path / "page.html"
    with answering(NOBODY, asked) as url:
        assert main(["slo", "preview", "--prometheus", url, "--out", str(out), *options]) == 2
    assert advice in capsys.readouterr().err
    assert asked == []
    assert not out.exists()


def test_a_server_that_is_none_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    with answering({"": (404, "not here")}) as url:
        assert main(["slo", "preview", "--prometheus", url, "--out", str(out)]) == 1
    assert "this is no Prometheus server" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_that_is_not_there_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(NOBODY) as url:
        assert main(["slo", "preview", "--prometheus", url, "--out", str(tmp_path / "none" / "page.html")]) == 1
    assert "none" in capsys.readouterr().err
