"""What each tier is promised and may do, for whoever simulates the platform: from the two files that say so."""

from __future__ import annotations

import math

from api.limits.tiers import Tiers
from autoscaling.simulator.tiers import TierService
from dashboards.objectives import Objectives


def tier_services(objectives: Objectives) -> dict[str, TierService]:
    """Tier → its service; without a promise of first audio none is late."""
    tiers = Tiers.load()
    services = {}
    for name in objectives.tiers:
        tier, rule = tiers.tiers[name], tiers.rules[name]
        first_s = objectives.threshold("ttfa", name) or math.inf
        base_s, per_audio_s = objectives.deadlines[name]
        services[name] = TierService(rule, first_s, base_s, per_audio_s, tier.max_stream_wait_s, tier.max_wait_s)
    return services
