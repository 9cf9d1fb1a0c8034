"""The page: every kind of panel is drawn, what is missing is said, and nothing in it is taken for HTML."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from dashboards.builder.look import Color, Style, Threshold, Unit, worse_above
from dashboards.builder.model import (
    BarGauge,
    Dashboard,
    Gauge,
    Heatmap,
    Panel,
    Row,
    Stat,
    Table,
    Target,
    TimeSeries,
)
from dashboards.preview.data import Answer, Filled, Firing
from dashboards.preview.heatmap import heatmap
from dashboards.preview.instruments import bars, gauges, stat
from dashboards.preview.lines import line_chart, lines_of
from dashboards.preview.page import Heading, Shown, page, panels_without
from dashboards.preview.prometheus import Series, Window
from dashboards.preview.tables import table

WINDOW = Window(1000, 1040, 10)
WORDS = ("What it means.", "When to worry.")
NASTY = '<script>alert("x")</script>'


def _series(*values: float, start: float = 1000, **labels: str) -> Series:
    return Series(labels, tuple((start + 10 * index, value) for index, value in enumerate(values)))


def _filled(panel: Panel, *answers: Sequence[Series], window: Window = WINDOW) -> Filled:
    pairs = zip(panel.targets, answers, strict=True)
    return Filled(panel, window, tuple(Answer(target, tuple(series)) for target, series in pairs))


def _lines(*targets: Target, **values: object) -> TimeSeries:
    return replace(TimeSeries("Lines", *WORDS, targets or (Target("x", "{{who}}"),)), **values)  # type: ignore[arg-type]


def _chart(filled: Filled, alerts: Sequence[Firing] = ()) -> ET.Element:
    return ET.fromstring(line_chart(filled, alerts, 400, 200))


def _of(svg: ET.Element, kind: str) -> list[ET.Element]:
    return [each for each in svg.iter() if each.get("class") == kind]


def _ys(path: ET.Element) -> list[float]:
    return [float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path.get("d") or "")]


def test_a_line_is_highest_where_its_value_is() -> None:
    (path,) = _of(_chart(_filled(_lines(), [_series(0, 1, 4, 2, 0, who="me")])), "line")
    assert _ys(path)[2] == min(_ys(path))
    assert _ys(path)[0] == max(_ys(path)) == 200 - 22


def test_a_missing_value_breaks_the_line() -> None:
    svg = _chart(_filled(_lines(), [_series(1, 2, math.nan, 3, 4, who="me")]))
    assert len(_of(svg, "line")) == 2
    gap = Series({}, ((1000, 1.0), (1010, 1.0), (1040, 1.0)))
    svg = _chart(_filled(_lines(), [gap]))
    assert len(_of(svg, "line")) == 1
    assert len(_of(svg, "dot")) == 1  # a value without neighbours


def test_stacked_lines_stand_on_each_other_and_bounds_do_not() -> None:
    panel = _lines(Target("x", "{{who}}"), Target("y", "bound", style=Style.BOUND), stacked=True)
    filled = _filled(panel, [_series(1, 1, who="a"), _series(2, 2, who="b")], [_series(3, 3)])
    svg = _chart(filled)
    tops = sorted(_ys(path)[0] for path in _of(svg, "line"))
    (bound,) = _of(svg, "bound")
    assert _ys(bound)[0] == tops[0]  # 3 = 1 + 2
    assert len(_of(svg, "area stacked")) == 2


def test_lines_keep_their_names_and_colours() -> None:
    panel = _lines(Target("x", "{{who}}, {{what}}"), Target("y", "sum", color=Color.RED), Target("z"))
    lines = lines_of(
        _filled(panel, [_series(1, who="me", what="it")], [_series(1)], [_series(1, __name__="up", job="a", zone="b")])
    )
    assert [line.name for line in lines] == ["me, it", "sum", "a, b"]
    assert lines[1].color == "red"


def test_the_axis_reaches_thresholds_that_are_near_only() -> None:
    near = _lines(thresholds=worse_above(5, 50), threshold_lines=True)
    svg = _chart(_filled(near, [_series(4, 4)]))
    assert len(_of(svg, "threshold")) == 1
    assert len(_of(_chart(_filled(_lines(thresholds=worse_above(5, 50)), [_series(4, 4)])), "threshold")) == 0


@pytest.mark.parametrize("values", [(0.0, 0.0), (5.0, 5.0), (-3.0, -3.0), (math.inf, 1.0)])
@pytest.mark.parametrize("bounds", [{}, {"minimum": None}, {"maximum": 1}, {"minimum": None, "maximum": 1}])
def test_any_values_can_be_drawn(values: tuple[float, ...], bounds: dict[str, float]) -> None:
    text = line_chart(_filled(_lines(**bounds), [_series(*values)]), (), 400, 200)
    assert "nan" not in text
    assert ET.fromstring(text) is not None


def test_alerts_and_single_requests_are_marked() -> None:
    exemplar = Series({"trace_id": "abc"}, ((1010, 1.5),))
    outside = Series({"trace_id": "late"}, ((5000, 1.5),))
    answer = Answer(Target("x", "p99", exemplar=True), (_series(1, 2),), (exemplar, outside))
    svg = _chart(Filled(_lines(), WINDOW, (answer,)), [Firing("Fast", 1000, 1030), Firing("Slow", 1010, 1020)])
    assert len(_of(svg, "firing")) == 1  # one tint, however many fire
    assert [each[0].text for each in _of(svg, "fires")] == ["Fast fires", "Slow fires"]
    assert [each[0].text for each in _of(svg, "exemplar")] == ["1.5: trace_id abc"]


def test_where_there_are_many_single_requests_the_worst_are_shown() -> None:
    many = tuple(Series({"trace_id": str(index)}, ((1010, index / 100),)) for index in range(100))
    for lowest, expected in ((0.0, range(50, 100)), (None, range(50))):
        answer = Answer(Target("x", "p", exemplar=True), (_series(0, 1),), many)
        svg = _chart(Filled(_lines(minimum=lowest), WINDOW, (answer,)))
        shown = {int((each[0].text or "").rpartition(" ")[2]) for each in _of(svg, "exemplar")}
        assert shown == set(expected)


def test_a_chart_speaks() -> None:
    svg = _chart(_filled(_lines(unit=Unit.SECONDS), [_series(1, 2, who="me")]))
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "Lines: newest values me 2 s"
    assert [each.text for each in svg[:2]] == ["Lines", "What it means."]


def test_a_heatmap_has_what_fell_into_each_bucket() -> None:
    panel = Heatmap("Map", *WORDS, (Target("x"),), unit=Unit.SECONDS)
    buckets = [
        _series(4, 0, le="0.5"), _series(4, 3, le="1"), _series(4, 3, le="2"), _series(5, 3, le="+Inf"),
    ]  # fmt: skip
    svg = ET.fromstring(heatmap(_filled(panel, buckets), 400, 200))
    cells = _of(svg, "cell")
    assert [cell[0].text for cell in cells] == ["4.0 of map", "3.0 of map", "1.0 of map"]
    assert max(cells, key=lambda cell: float(cell.get("opacity") or 0))[0].text == "4.0 of map"
    assert {each.text for each in _of(svg, "tick value")} == {"≤ 500 ms", "≤ 1 s", "≤ 2 s", "more"}


def test_a_heatmap_of_nothing_is_empty() -> None:
    assert heatmap(_filled(Heatmap("Map", *WORDS, (Target("x"),)), [_series(0, 0, le="1")]), 400, 200) == ""


def test_a_figure_has_the_colour_of_its_threshold_and_its_past() -> None:
    panel = Stat("Share", *WORDS, (Target("x"),), unit=Unit.RATIO, thresholds=worse_above(0.5, 0.9))
    text = stat(_filled(panel, [_series(0.1, 0.95)]), 200, 90)
    assert 'style="--c:var(--red)">95<' in text
    assert "spark" in text
    assert "spark" not in stat(_filled(replace(panel, sparkline=False), [_series(0.1, 0.95)]), 200, 90)
    assert "spark" not in stat(_filled(panel, [_series(0.95)]), 200, 90)  # no past


def test_figures_of_several_series_are_named() -> None:
    panel = Stat("Share", *WORDS, (Target("x", "{{who}}"),))
    text = stat(_filled(panel, [_series(1, who="a"), _series(2, who="b")]), 200, 90)
    assert re.findall(r'class="of">(\w)<', text) == ["a", "b"]


def test_a_gauge_is_as_long_as_its_share() -> None:
    panel = Gauge("Use", *WORDS, (Target("x", "{{who}}"),), unit=Unit.RATIO)
    text = gauges(_filled(panel, [_series(0.25, who="a"), _series(7, who="b")]))
    assert re.findall(r">([\d.]+ %)</text>", text) == ["25 %", "700 %"]
    quarter, full = re.findall(r'class="arc".*? d="(M[^"]+)"', text)
    track = re.findall(r'class="track".*? d="(M[^"]+)"', text)[0]
    assert full == track
    assert quarter != track


def test_the_longest_bar_comes_first() -> None:
    panel = BarGauge("Bars", *WORDS, (Target("x", "{{who}}"),), thresholds=(Threshold(None, Color.GREEN),))
    text = bars(_filled(panel, [_series(1, who="a"), _series(4, who="b")]))
    assert re.findall(r'name">(\w)<.*?width:([\d.]+)%', text) == [("b", "100.0"), ("a", "25.0")]
    assert "width:0.0%" in bars(_filled(panel, [_series(0, who="a")]))


def test_a_table_joins_its_queries() -> None:
    panel = Table(
        "Table", *WORDS, (Target("x", "Target", unit=Unit.RATIO), Target("y", "Burn", thresholds=worse_above(1, 6))),
        labels=(("slo", "Objective"), ("severity", "Severity")),
    )  # fmt: skip
    first = [_series(0.99, slo="a", severity="page"), _series(0.5, slo="b")]
    text = table(_filled(panel, first, [_series(7, slo="a", severity="page")]))
    cells = [re.findall(r"<td.*?>(.*?)</td>", row) for row in text.split("<tr>")[2:]]
    assert cells[0][0] == "a"
    assert cells[0][2:] == ["99 %", "7"]
    assert cells[1] == ["b", "–", "50 %", "–"]
    assert "var(--red)" in text


def test_a_long_table_says_how_much_more_there_is() -> None:
    panel = Table("Table", *WORDS, (Target("x", "Value"),), labels=(("n", "N"),))
    text = table(_filled(panel, [_series(index, n=f"{index:03}") for index in range(50)]))
    assert text.count("<tr>") == 41
    assert "and 10 more" in text


# ------------------------------------------------------------------------------------------------ page
def _page(*filled: Filled, **heading: object) -> str:
    dashboard = Dashboard("x", "Tutti: an example", "To see.", (Row("Row", tuple(each.panel for each in filled)),))
    shown = Shown(dashboard, {each.panel.title: each for each in filled}, ())
    facts = Heading("http://me:secret@host:9090/p", 1000, 1040, {"tier": "pro"})
    return page([shown], replace(facts, **heading))  # type: ignore[arg-type]


class _Tags(HTMLParser):
    """Every tag that is opened, with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_nothing_comes_from_elsewhere() -> None:
    text = _page(_filled(_lines(), [_series(1, 2, who=NASTY)]))
    tags = _Tags(text).tags
    assert {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object"} == set()
    assert not any(name in attributes for _, attributes in tags for name in ("src", "onclick", "onload"))
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize(
    "panel",
    [
        _lines(Target("x", "{{who}}")),
        Stat("Lines", *WORDS, (Target("x", "{{who}}"),)),
        Gauge("Lines", *WORDS, (Target("x", "{{who}}"),)),
        BarGauge("Lines", *WORDS, (Target("x", "{{who}}"),)),
        Table("Lines", *WORDS, (Target("x", "Value"),), labels=(("who", "Who"),)),
        Heatmap("Lines", *WORDS, (Target("x"),)),
    ],
    ids=lambda panel: type(panel).__name__,
)
def test_labels_are_text(panel: Panel) -> None:
    series = [_series(1, 2, who=NASTY, le="1"), _series(1, 2, who="other", le="2")]
    text = _page(_filled(replace(panel, means=NASTY, worry=NASTY), series))
    assert "<script" not in text
    assert "grid-area:2/1/span" in text


def test_no_data_is_said_in_the_panels_words() -> None:
    plain, worded = _filled(_lines(), []), _filled(_lines(title="Other", empty="Nobody yet"), [_series(math.nan)])
    text = _page(plain, worded)
    assert re.findall(r'class="empty">([^<]+)<', text) == ["No data", "Nobody yet"]
    assert "2, 2 without data" in text


def test_an_error_stands_in_its_panel_beside_what_there_is() -> None:
    panel = _lines(Target("x", "x"), Target("y", "y"))
    both = Filled(panel, WINDOW, (Answer(panel.targets[0], (_series(1, 2),)), Answer(panel.targets[1], error="a < b")))
    text = _page(both)
    assert '<p class="error" role="alert">a &lt; b</p>' in text
    assert 'class="line"' in text
    assert "1, 1 with errors" in text


def test_what_is_lacking_is_listed() -> None:
    broken = Filled(_lines(title="Broken"), WINDOW, (Answer(Target("x"), error="wrong"),))
    filled = [_filled(_lines(title="Good"), [_series(1)]), _filled(_lines(title="Empty"), []), broken]
    dashboard = Dashboard("x", "X", "", (Row("Row", tuple(each.panel for each in filled)),))
    shown = Shown(dashboard, {each.panel.title: each for each in filled}, ())
    assert list(panels_without([shown])) == [("x", "Empty", "No data"), ("x", "Broken", "wrong")]


def test_the_head_says_when_whence_and_for_whom() -> None:
    text = _page(_filled(_lines(), [_series(1)]))
    assert "01 Jan 1970 00:16:40 – 00:17:20 UTC" in text
    assert "http://host:9090/p" in text
    assert "secret" not in text
    assert "01 Jan 1970 00:16:40 – 02 Jan 1970" in _page(_filled(_lines(), [_series(1)]), end=90_000)


def test_runbooks_are_linked_where_they_are() -> None:
    filled = _filled(_lines(runbook="Burns"), [_series(1)])
    assert '<a href="../runbooks/Burns.md">' in _page(filled, runbooks="../runbooks")
    assert "<a " not in _page(filled)


def test_several_dashboards_have_a_table_of_contents() -> None:
    filled = _filled(_lines(), [_series(1)])
    shown = [
        Shown(Dashboard(name, f"Tutti: {name}", "", (Row("Row", (filled.panel,)),)), {"Lines": filled}, ())
        for name in ("one", "two")
    ]
    text = page(shown, Heading("http://host", 0, 1, {}))
    assert re.findall(r'href="#tutti-(\w+)">(\w+)<', text) == [("one", "One"), ("two", "Two")]
    assert text.count("<h1>") == 2


def test_a_legend_of_many_lines_shows_the_largest() -> None:
    text = _page(_filled(_lines(), [_series(index, who=f"w{index:02}") for index in range(14)]))
    legend = text[text.index('class="legend"') :]
    assert re.findall(r">(w\d\d) <b>", legend) == [f"w{index:02}" for index in range(13, 3, -1)]
    assert "and 4 more" in legend


def test_a_kind_of_panel_without_a_picture_is_a_bug() -> None:
    with pytest.raises(TypeError, match="has no picture"):
        _page(_filled(Panel("A", *WORDS, (Target("x"),)), [_series(1)]))
