"""What the preview asks of Prometheus, and what becomes of answers that are none."""

from __future__ import annotations

import socket

import pytest

from dashboards.builder.model import BarGauge, Dashboard, Heatmap, Row, Stat, Target, TimeSeries
from dashboards.panels.queries import MODEL, TIER
from dashboards.preview.data import Choice, Firing, ask, choose, firing, substitute, window_of
from dashboards.preview.prometheus import Prometheus, PrometheusError, Window, public, seconds
from tests.dashboards.answers import EMPTY, TARGETS, answering, refusal, success

CHOICE = Choice({"model": ".*"}, 1000.0, 1900.0, 5.0)


def _lines(*exprs: str, exemplar: bool = False) -> TimeSeries:
    queries = tuple(Target(expr, exemplar=exemplar) for expr in exprs)
    return TimeSeries("Lines", "What.", "When.", queries)


@pytest.mark.parametrize(
    ("text", "expected"), [("15m", 900), ("1h30m", 5400), ("2d", 172_800), ("1w", 604_800), ("500ms", 0.5)]
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "1.5h", "15 m", "-5m", "0s", "5mm"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="like 15m"):
        seconds(text)


def test_variables_are_filled_in() -> None:
    expr = 'rate(x{model=~"$model"}[$__rate_interval]) + y[$__range] + z[$__interval]'
    assert substitute(expr, CHOICE, 2.0) == 'rate(x{model=~".*"}[20000ms]) + y[900000ms] + z[2000ms]'
    assert "[65000ms]" in substitute(expr, CHOICE, 60.0)  # a step and a scrape more


def test_a_variable_that_is_none_is_a_bug() -> None:
    with pytest.raises(KeyError, match="tenant"):
        substitute("x{a=~'$tenant'}", CHOICE, 1.0)


def test_what_is_not_chosen_matches_everything() -> None:
    dashboard = Dashboard("x", "X", "", (Row("Row", (_lines("up"),)),), (MODEL, TIER))
    assert choose(dashboard, {"model": "tiny", "tier": "", "other": "y"}) == {"model": "tiny", "tier": ".*"}


def test_steps_are_round_and_not_finer_than_scrapes() -> None:
    window = window_of(_lines("up"), CHOICE)
    assert window == Window(1000.0, 1900.0, 5)
    heatmap = Heatmap("H", "What.", "When.", (Target("up"),))
    assert window_of(heatmap, CHOICE).step_s == 15
    assert window_of(_lines("up"), Choice({}, 0.0, 7 * 86400.0, 5.0)) == Window(0, 7 * 86400, 3600)
    assert window_of(_lines("up"), Choice({}, 0.0, 4e8, 5.0)).step_s % 86400 == 0


def test_figures_ask_for_one_moment_and_lines_for_all() -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    panels = (
        _lines("up"),
        BarGauge("Bars", "What.", "When.", (Target("up"),)),
        Stat("Past", "What.", "When.", (Target("up"),)),
        Stat("Now", "What.", "When.", (Target("up"),), sparkline=False),
    )
    with answering({"": success(EMPTY)}, asked) as url, Prometheus(url) as server:
        for panel in panels:
            assert ask(server, panel, CHOICE).is_empty
    assert [path.rpartition("/")[2] for path, _ in asked] == ["query_range", "query", "query_range", "query"]
    assert asked[1][1]["time"] == "1900.000"
    assert asked[0][1] == {"query": "up", "start": "1000.000", "end": "1900.000", "step": "5.000"}


def test_numbers_are_read_in_prometheus_notation() -> None:
    values = [[1000, "NaN"], [1005, "+Inf"], [1010, "2.5"], [1015, "NaN"]]
    matrix = {"resultType": "matrix", "result": [{"metric": {"a": "b"}, "values": values}]}
    scalar = {"resultType": "scalar", "result": [1000, "7"]}
    with answering({"query_range": success(matrix), "query": success(scalar)}) as url, Prometheus(url) as server:
        (series,) = server.query_range("x", Window(1000, 1015, 5))
        (single,) = server.query("7", 1000)
    assert [str(value) for _, value in series.points] == ["nan", "inf", "2.5", "nan"]
    assert [series.last, single.last] == [2.5, 7]


def test_a_refused_query_leaves_the_others_alone() -> None:
    matrix = {"resultType": "matrix", "result": [{"metric": {}, "values": [[1000, "1"]]}]}
    with (
        answering({"query_range": success(matrix), "query_exemplars": refusal("too many")}) as url,
        Prometheus(url) as server,
    ):
        filled = ask(server, _lines("good"), CHOICE)
        wrong = ask(server, _lines("bad", exemplar=True), CHOICE)
    assert filled.errors == []
    assert wrong.errors == ["too many"]
    assert wrong.is_empty


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal("parse error: unexpected end", 400), "parse error: unexpected end"),
        ((200, "<html>"), "Status 200 and no JSON: this is no Prometheus server"),
        ((404, "404 page not found"), "Status 404 and no JSON: this is no Prometheus server"),
        ((200, "[]"), "Status 200: this is no Prometheus server"),
        ((503, '{"status": "error"}'), "Status 503: this is no Prometheus server"),
    ],
)
def test_what_is_no_answer_is_said(answer: tuple[int, str], said: str) -> None:
    with answering({"": answer}) as url, Prometheus(url) as server, pytest.raises(PrometheusError) as caught:
        server.query("up", 0)
    assert str(caught.value) == said


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://me:hidden@127.0.0.1:{taken.getsockname()[1]}/prometheus"
        with Prometheus(url) as server, pytest.raises(PrometheusError) as caught:
            server.query("up", 0)
    assert "hidden" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:9090", "nothing://127.0.0.1", "http://[::1"])
def test_an_address_that_is_none_is_said(url: str) -> None:
    with Prometheus(url) as server, pytest.raises(PrometheusError, match="No answer from Prometheus at"):
        server.query("up", 0)


def test_addresses_are_shown_without_credentials() -> None:
    assert public("https://me:secret@host:9090/path") == "https://host:9090/path"
    assert public("http://host:9090") == "http://host:9090"


def test_the_longest_scrape_interval_counts() -> None:
    with answering({"targets": success(TARGETS)}) as url, Prometheus(url) as server:
        assert server.scrape_interval_s() == 15
    with answering({"targets": success({"activeTargets": []})}) as url, Prometheus(url) as server:
        assert server.scrape_interval_s() == 15


def test_an_alert_that_fires_twice_is_two_stretches() -> None:
    values = [[at, "1"] for at in (1000, 1005, 1010, 1500, 1505)]
    matrix = {"resultType": "matrix", "result": [{"metric": {"alertname": "Fast"}, "values": values}]}
    with answering({"query_range": success(matrix)}) as url, Prometheus(url) as server:
        assert firing(server, CHOICE) == [Firing("Fast", 1000, 1010), Firing("Fast", 1500, 1505)]
