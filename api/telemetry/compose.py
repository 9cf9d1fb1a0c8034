"""A process's telemetry, made from the promises of ``slo.yaml``."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from api.clock import Clock
from api.settings import SettingsError
from api.telemetry.catalogue import SLIS, TIERS
from api.telemetry.decisions import Objectives
from api.telemetry.recorder import Role, Telemetry
from api.telemetry.tally import Tally
from dashboards.objectives import load_objectives

_TIMED = ("ttfa", "continuity")  # slo.yaml says how many seconds are good


@lru_cache(maxsize=1)
def objectives() -> Objectives:
    """What is promised, read once in the life of a process.

    Raises:
        SettingsError: slo.yaml leaves a tier or a service level out.
        SloFileError: it is broken.
    """
    read = load_objectives()
    for sli in SLIS:
        for tier in TIERS:
            _check(read, sli, tier)
    return read


def make_telemetry(role: Role, clock: Clock, also: Iterable[str] = ()) -> Telemetry:
    """
    Args:
        also: names of metrics beyond those of the role.

    Raises:
        SettingsError, SloFileError: as ``objectives``.
    """
    promised = objectives()
    telemetry = Telemetry(role, promised, Tally(clock), also)
    for sli in SLIS:
        for tier in TIERS:
            threshold_s = promised.threshold(sli, tier)
            within = "" if threshold_s is None else f"{threshold_s:g}"
            info = telemetry.registry.gauge("tutti_slo_info")
            info.labels(sli, tier, f"{promised.objective(sli, tier):g}", within).set(1)
    return telemetry


def _check(promised: Objectives, sli: str, tier: str) -> None:
    try:
        promised.objective(sli, tier)
        missing = sli in _TIMED and promised.threshold(sli, tier) is None
    except KeyError:
        missing = True
    if missing:
        raise SettingsError(f"dashboards/slo.yaml says nothing usable of {sli} for the tier {tier}: add it there")
