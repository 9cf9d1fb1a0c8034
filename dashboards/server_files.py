"""Configuration of Prometheus and Alertmanager."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dashboards.causes import JOB
from dashboards.durations import duration
from dashboards.timescale import TimeScale

TARGETS_PATH: Final = "/metrics/targets"
"""Where the platform lists every process that tells metrics, as ``http_sd`` wants it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the servers find each other.

    Attributes:
        platform: URL of Tutti, without a slash at its end.
        prometheus: host and port.
        alertmanager: host and port.
        token_file: holds TUTTI_METRICS_TOKEN for Prometheus; None: it runs on the platform's machine and needs none.
        notify: URL to which Alertmanager posts, with /page or /ticket behind it; None: it tells nobody.
    """

    platform: str = "http://127.0.0.1:8000"
    prometheus: str = "127.0.0.1:9090"
    alertmanager: str = "127.0.0.1:9093"
    token_file: str | None = None
    notify: str | None = None


def prometheus_config(addresses: Addresses, scale: TimeScale) -> dict[str, Any]:
    """``prometheus.yml``: every process of the platform is found by asking it."""
    every = duration(scale.scrape_s)
    discovery = {"url": addresses.platform + TARGETS_PATH, "refresh_interval": duration(scale.wait(15))}
    return {
        "global": {"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": _timeout(scale)},
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [addresses.alertmanager]}]}]},
        "scrape_configs": [
            {"job_name": JOB, **_token(addresses), "http_sd_configs": [discovery | _token(addresses)]},
            {"job_name": "prometheus", "static_configs": [{"targets": [addresses.prometheus]}]},
        ],
    }


def _token(addresses: Addresses) -> dict[str, Any]:
    """A new one each time: YAML would write one that is used twice as an anchor."""
    return {"authorization": {"credentials_file": addresses.token_file}} if addresses.token_file else {}


def _timeout(scale: TimeScale) -> str:
    return duration(min(10.0, scale.scrape_s))


def alertmanager_config(addresses: Addresses, scale: TimeScale) -> dict[str, Any]:
    """``alertmanager.yml``: pages at once, tickets together; of one SLO the ticket is silent while the page fires."""
    return {
        "route": {
            "receiver": "ticket",
            "group_by": ["alertname", "sli", "tier"],
            "group_wait": duration(scale.wait(60)),
            "group_interval": duration(scale.wait(300)),
            "repeat_interval": duration(scale.wait(86_400)),
            "routes": [
                {
                    "matchers": ['severity="page"'],
                    "receiver": "page",
                    "group_wait": duration(scale.wait(15)),
                    "group_interval": duration(scale.wait(60)),
                    "repeat_interval": duration(scale.wait(14_400)),
                }
            ],
        },
        "inhibit_rules": [
            # An empty label equals a missing one: without the first matchers a page would silence strangers.
            {
                "source_matchers": ['severity="page"', 'sloth_id=~".+"'],
                "target_matchers": ['severity="ticket"', 'sloth_id=~".+"'],
                "equal": ["sloth_id"],
            },
            {
                "source_matchers": ['alertname="TuttiDown"'],
                "target_matchers": ['severity="ticket"', 'alertname=~"TuttiTargetDown|Tutti.+Absent"'],
            },
        ],
        "receivers": [_receiver("page", addresses.notify), _receiver("ticket", addresses.notify)],
    }


def _receiver(name: str, notify: str | None) -> dict[str, Any]:
    webhook = {"webhook_configs": [{"url": f"{notify}/{name}"}]} if notify else {}
    return {"name": name, **webhook}
