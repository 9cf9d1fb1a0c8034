"""Values that cannot work are refused when the chart is rendered, and the message says what to do."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest

from deploy.render import overlaid, render, values


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"existingSecret": ""}, "existingSecret: name the Secret"),
        ({"storage": {"url": ""}}, "storage.url: where audio is kept"),
        ({"storage": {"url": "file:///data/audio"}}, "/storage/url"),
        ({"valkey": {"bundeld": True}}, "bundeld"),
        ({"settings": {"PUBLIC_URL": "https://example.com"}}, "PUBLIC_URL"),
        ({"settings": {"TUTTI_REGISTRATION_OPEN": False}}, "TUTTI_REGISTRATION_OPEN"),
        (
            {"serve": {"models": {"huge": {"enabled": True}}}},
            "serve_config.yaml has no such model; it has large, medium",
        ),
        (
            {"serve": {"deployments": {"Gatway": {}}}},
            "serve_config.yaml has no such deployment; it has Gateway, Worker",
        ),
        ({"serve": {"models": {"small": {"enabled": True}}}}, "small has no place: name it under models of one of the"),
        ({"pools": {"cpu": {"models": ["tiny", "smal"]}}}, "pools.cpu.models: serve_config.yaml has no smal"),
        ({"pools": {"ingress": {"deployments": ["Gateway"]}}}, "Worker has no place"),
        ({"pools": {"head": {}}}, "head"),
        (
            {"serve": {"models": {"small": {"enabled": True}}}, "pools": {"cpu": {"models": ["tiny", "small"]}}},
            "settings.TUTTI_DEFAULT_MODEL: several models are switched on (small, tiny)",
        ),
        ({"ingress": {"enabled": True}}, "ingress.host"),
    ],
    ids=lambda value: value.split(":")[0][:40].replace(" ", "_") if isinstance(value, str) else "",
)
def test_values_that_cannot_work(over: dict[str, Any], told: str) -> None:
    with pytest.raises(helm_python.HelmError) as caught:
        render(overlaid(values("trial"), over))
    assert told in str(caught.value)
