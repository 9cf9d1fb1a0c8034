"""From a Prometheus server to a page: which dashboards, of when, for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards.builder.model import Dashboard
from dashboards.panels import DASHBOARDS
from dashboards.preview.data import Choice, ask, choose, firing
from dashboards.preview.page import Heading, Shown, page, panels_without
from dashboards.preview.prometheus import Prometheus
from models.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Preview:
    """A page, and what it lacks.

    Attributes:
        panels: how many there are.
        lacking: dashboard, panel and reason of those that show nothing or an error.
    """

    html: str
    panels: int
    lacking: tuple[tuple[str, str, str], ...]


def chosen(name: str) -> Sequence[Dashboard]:
    """The dashboards of a name; "all" are all of them.

    Raises:
        InvalidRequestError: there is none of that name.
    """
    found = [each for each in DASHBOARDS if name in ("all", each.name)]
    if not found:
        names = ", ".join(each.name for each in DASHBOARDS)
        raise InvalidRequestError(f"There is no dashboard {name!r}: choose one of {names}, or all", "dashboard")
    return found


def preview(
    server: Prometheus,
    dashboards: Sequence[Dashboard],
    *,
    since_s: float,
    end: float,
    variables: Mapping[str, str],
    runbooks: str = "",
) -> Preview:
    """Ask everything and draw it. Whatever a panel lacks is said in its place.

    Args:
        since_s: how many seconds up to ``end`` (unix seconds) are shown.
        variables: regular expressions by variable; one that is not named matches everything.
        runbooks: address of the runbook pages, for links.

    Raises:
        PrometheusError: the server is away, or is no Prometheus.
    """
    interval_s = server.scrape_interval_s()
    start = end - since_s
    shown = []
    for dashboard in dashboards:
        choice = Choice(choose(dashboard, variables), start, end, interval_s)
        filled = {panel.title: ask(server, panel, choice) for panel in dashboard.panels()}
        shown.append(Shown(dashboard, filled, tuple(firing(server, choice))))
    heading = Heading(server.url, start, end, variables, runbooks)
    panels = sum(len(each.panels) for each in shown)
    return Preview(page(shown, heading), panels, tuple(panels_without(shown)))
