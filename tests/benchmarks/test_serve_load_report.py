"""What is made of results: a page that stands alone, and comparisons that find what is worse and nothing else."""

from __future__ import annotations

import json
import py_compile
import re
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from api.cli import main as tutti
from benchmarks.compare import NotComparableError
from benchmarks.serve_load.compare import compare, main
from benchmarks.serve_load.page import page
from benchmarks.serve_load.plot import Axis, Column, Mark, Series, chart, columns
from benchmarks.serve_load.table import show, show_search
from tests.benchmarks.serve_reports import report

LOCUSTFILE = Path(__file__).parents[2] / "benchmarks" / "locustfile.py"
SEARCH = {
    "verdict": "pass",
    "max_rate": 4.0,
    "max_good_audio_s_per_s": 11.0,
    "missed_rate": 5.0,
    "missed_by": "objectives",
    "stopped": "precision",
    "trials": [
        {
            "rate": rate,
            "offered_audio_s_per_s": 3 * rate, "audio_s_per_s": 3 * rate, "good_audio_s_per_s": 2.9 * rate,
            "sent": 10, "completed": 9, "refused": 1, "ttfa_s": {"p50": 0.1, "p95": 0.2, "p99": 0.3},
            "stall_free": 1.0, "missed": ["pro <ttfa>"] if rate > 4 else [], "verdict": "fail" if rate > 4 else "pass",
        }
        for rate in (2.0, 4.0, 5.0)
    ],
}  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- page


class Balanced(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def charts(html: str) -> list[ET.Element]:
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def test_the_page_stands_alone_and_shows_everything() -> None:
    found = report(slow=3.0, refused=0.1) | {"search": SEARCH}
    html = page(found)
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert not re.search(r"(src|href)=|url\(|@import|<script", html)
    titles = [each.attrib["aria-label"] for each in charts(html)]
    assert titles == [
        "Goodput against offered load",
        "Distribution of the time to first audio",
        "Time to first audio over time",
        "Goodput over time",
        "Schedule",
        "Streams that never stood still",
        "Least audio in hand",
    ]
    heard = sum(value is not None for value in found["requests"]["ttfa_s"])
    dots = next(each for each in charts(html) if each.attrib["aria-label"] == "Time to first audio over time")
    assert len(list(dots.iter("circle"))) == heard
    assert "pro &lt;ttfa&gt;" in html


def test_nothing_becomes_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    found = report(errors={evil: 1}, broken_promises=[evil], faults={evil: {"sent": 1}})
    found["groups"][0]["model"] = evil
    found["target"]["url"] = evil
    assert "<img" not in page(found)


def test_a_run_in_which_nothing_came_has_a_page_and_a_table() -> None:
    found = report(refused=1.0)
    assert found["total"]["ttfa_s"] is None
    assert len(charts(page(found))) == 2  # goodput and schedule
    show(found, Console(quiet=True))


def test_an_invalid_run_says_so_first() -> None:
    found = report(verdict="invalid")
    html = page(found)
    assert html.index("INVALID") < html.index("Service levels")
    console = Console(record=True, width=160, file=StringIO())
    show(found, console)
    show_search(SEARCH, console)
    told = console.export_text()
    assert "so that it measured itself" in told
    assert "At most 11.00 s of good audio a second" in told


def test_processor_time_is_told_per_second_of_audio() -> None:
    found = report()
    audio_s = sum(found["requests"]["audio_s"])
    found["processor_s"] = {"musicgen-tiny": 0.02 * audio_s, "Worker": 0.01 * audio_s, "log_monitor": 1e-5 * audio_s}
    console = Console(record=True, width=160, file=StringIO())
    show(found, console)
    assert "ms per second of audio: musicgen-tiny 20.0, Worker 10.0, all 30.0" in console.export_text()


def test_points_lie_where_they_should() -> None:
    svg = chart("t", Axis("x"), Axis("y"), [Series("s", "t0", [(0, 0), (5, 5), (10, 10)], "dots")], [Mark("m", 5.0)])
    dots = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in ET.fromstring(svg).iter("circle")]
    (x0, y0), (x1, y1), (x2, y2) = dots
    assert x0 < x1 < x2
    assert y0 > y1 > y2
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    (mark,) = (each for each in ET.fromstring(svg).iter("line") if each.attrib["class"] == "mark")
    assert float(mark.attrib["y1"]) == y1
    assert chart("t", Axis("x"), Axis("y"), [Series("s", "t0", [])]) == ""
    assert columns("t", Axis("x"), Axis("y"), 1.0, [], {}) == ""


def test_columns_stack_up() -> None:
    data = [Column(0.0, {"a": 1.0, "b": 3.0}), Column(1.0, {"a": 4.0})]
    drawn = ET.fromstring(columns("t", Axis("x"), Axis("y"), 1.0, data, {"a": "A", "b": "B"}))
    boxes = [each.attrib for each in drawn.iter("rect") if "key" not in each.attrib["class"]]
    heights = [float(each["height"]) for each in boxes]
    assert heights[0] + heights[1] == pytest.approx(heights[2], abs=0.3)
    assert float(boxes[1]["y"]) == pytest.approx(float(boxes[2]["y"]), abs=0.2)


# ------------------------------------------------------------------------------------------------------------ compare


def changes(a: dict[str, Any], b: dict[str, Any]) -> dict[str, str]:
    return {each.name: each.change for each in compare(a, b)}


def test_the_same_run_is_the_same() -> None:
    found = compare(report(), report())
    assert {each.change for each in found} == {"same"}
    assert all(each.low <= each.ratio == 1.0 <= each.high for each in found)


@pytest.mark.parametrize("seed", [0, 9])
def test_other_luck_is_no_regression(seed: int) -> None:
    assert "regression" not in changes(report(luck=1), report(luck=2, seed=seed)).values()


def test_what_is_slower_is_found_and_what_is_faster_is_better() -> None:
    found = changes(report(luck=1), report(luck=2, slow=1.6))
    for quantile in ("p50", "p95", "p99"):
        assert found[f"time to first audio, {quantile}"] == "regression"
    assert found["time to a job's end, p95"] == "regression"
    assert found["completed requests"] == "same"
    assert changes(report(luck=1, slow=1.6), report(luck=2))["time to first audio, p50"] == "better"


def test_a_service_that_refuses_more_is_worse() -> None:
    found = changes(report(), report(refused=0.3))
    assert (found["good audio"], found["completed requests"]) == ("regression", "regression")


def written(tmp_path: Path, name: str, value: Any) -> str:
    file = tmp_path / name
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(file)


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = written(tmp_path, "a.json", report()), written(tmp_path, "b.json", report(slow=2.0))
    assert main([a, a]) == 0
    assert main([a, b]) == 1
    assert main([b, a]) == 0
    capsys.readouterr()
    assert tutti(["bench", "compare", a, b, "--quiet"]) == 1
    line = json.loads(capsys.readouterr().out)
    assert line["verdict"] == "regression"
    assert main([a, b, "--tolerance", "0.99", "--quiet"]) == 1  # 2 times is more than 1.99 times
    assert main([a, str(tmp_path / "none.json")]) == 2
    assert "Cannot compare" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "is no JSON"),
        ({"benchmark": "engine"}, "was not written by"),
        ({"benchmark": "serve", "verdict": "pass"}, "was not written by"),
    ],
)
def test_other_files_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: Any, message: str
) -> None:
    assert main([written(tmp_path, "a.json", value), written(tmp_path, "b.json", report())]) == 2
    assert message in json.loads(capsys.readouterr().out.splitlines()[-1])["reason"]


def test_other_loads_are_not_compared(tmp_path: Path) -> None:
    other = report()
    other["settings"]["rate"] = 9.0
    with pytest.raises(NotComparableError, match=r"rate of A is 8\.0, of B 9\.0"):
        compare(report(), other)
    few = report()
    few["requests"] = {name: values[:20] for name, values in few["requests"].items()}
    with pytest.raises(NotComparableError, match="at least 30 are needed"):
        compare(report(), few)
    assert main([written(tmp_path, "a.json", report()), written(tmp_path, "b.json", report(verdict="invalid"))]) == 2


# ------------------------------------------------------------------------------------------------------------- locust


def test_the_locustfile_compiles(tmp_path: Path) -> None:
    assert py_compile.compile(str(LOCUSTFILE), cfile=str(tmp_path / "locustfile.pyc"), doraise=True)


@pytest.mark.skipif(find_spec("locust") is None, reason="locust is not installed: it is no dependency")
def test_locust_takes_it() -> None:
    assert "Listener" in import_module("locust.main").load_locustfile(str(LOCUSTFILE))[0]
