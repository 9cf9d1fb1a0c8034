"""Renders the chart with Helm's own engine, without a cluster.

``python -m deploy.render`` (``make manifest``) writes ``rayservice.yaml``, the RayService of ``values/trial.yaml``:
for who wants to read it, or to do without Helm. A test compares it with the chart.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

FOLDER = Path(__file__).resolve().parent
CHART = FOLDER / "chart"
RAY_SERVICE = FOLDER / "rayservice.yaml"
RELEASE, NAMESPACE = "tutti", "tutti"
_HEAD = (
    "# Made from the chart by `make manifest`: change that, or values/trial.yaml. Without Helm: the Secret that\n"
    "# chart/values.yaml describes, a Valkey and a PostgreSQL under the names below, then kubectl apply.\n"
)


def values(name: str) -> dict[str, Any]:
    """One of the examples in ``values/``."""
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "values" / f"{name}.yaml").read_text())
    return loaded


def render(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every object of a release with these values.

    Raises:
        helm_python.HelmError: the values are refused; the message says which and why.
    """
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(dict(given), name=RELEASE, namespace=NAMESPACE)
    return [each for name in sorted(texts) for each in yaml.safe_load_all(texts[name]) if each]


def overlaid(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Values as with a second ``--values``."""
    merged = copy.deepcopy(dict(base))
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = overlaid(merged[name], value) if both else copy.deepcopy(value)
    return merged


def ray_service() -> str:
    """The file that is written."""
    (found,) = (each for each in render(values("trial")) if each["kind"] == "RayService")
    return _HEAD + yaml.dump(found, Dumper=_Readable, sort_keys=False, width=120, allow_unicode=True)


class _Readable(yaml.SafeDumper):
    """Writes a text of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)

if __name__ == "__main__":
    RAY_SERVICE.write_text(ray_service())
