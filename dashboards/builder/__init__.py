"""Dashboards as code. ``python -m dashboards.builder`` writes Grafana's JSON; ``--check`` says if it is current."""

from dashboards.builder.files import stale, write_all

__all__ = ["stale", "write_all"]
