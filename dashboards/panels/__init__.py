"""The dashboards, in the order in which they are read: from what listeners notice down to the machines."""

from __future__ import annotations

from typing import Final

from dashboards.builder.model import Dashboard
from dashboards.panels.capacity import AUTOSCALER
from dashboards.panels.engine import ENGINE
from dashboards.panels.load_test import LOAD_TEST
from dashboards.panels.overview import OVERVIEW
from dashboards.panels.ray_nodes import RAY_NODES
from dashboards.panels.streaming import STREAMING
from dashboards.panels.tenancy import TENANCY

DASHBOARDS: Final[tuple[Dashboard, ...]] = (
    OVERVIEW,
    STREAMING,
    ENGINE,
    AUTOSCALER,
    TENANCY,
    LOAD_TEST,
    RAY_NODES,
)
