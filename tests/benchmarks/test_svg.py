"""Charts are well-formed, show every bar, and let no text become markup."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from benchmarks.svg import Bar, bar_chart


def widths(svg: str) -> list[float]:
    return [float(each.attrib["width"]) for each in ET.fromstring(svg).iter("rect")]


def test_bars_are_as_long_as_their_values() -> None:
    svg = bar_chart("Speed", "steps/s", [Bar("ours", 100, 90, 120, "ours"), Bar("theirs", 25, 25, 25)])
    ours, theirs = widths(svg)
    assert abs(ours / theirs - 4) < 0.05
    assert svg.count('class="spread"') == 1
    assert "logarithmic" not in svg


def test_very_unequal_bars_get_a_logarithmic_axis() -> None:
    svg = bar_chart("Time", "s", [Bar("ours", 0.01, 0.01, 0.01), Bar("theirs", 10, 10, 10)])
    assert min(widths(svg)) > 0
    assert "s, logarithmic" in svg


def test_text_is_text() -> None:
    svg = bar_chart("<title>", "a & b", [Bar("<script>", 0, 0, 0, note="&")])
    assert "<script>" not in svg
    assert ET.fromstring(svg).attrib["aria-label"] == "<title>"


def test_no_bars_no_chart() -> None:
    assert bar_chart("Speed", "steps/s", []) == ""
