"""The policy "demand" over all model sizes: one decision each, then the GPUs are shared out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoscaling.packing import pack
from autoscaling.policy import ModelDecision, ModelPolicy, ModelState, decide
from autoscaling.signals import ModelSignals


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines that there are.

    Attributes:
        gpus: in all; None: as many as are asked for.
        shares: model → share of a GPU that a replica takes.
        order: who comes first when there are too few.
    """

    gpus: int | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    order: Sequence[str] = ()


class DemandPolicy:
    """Remembers each size's state between calls; forgetting it costs only what it had learnt.

    Args:
        policies: model → what is known of it and wanted.
        tick_s: seconds between decisions.
    """

    def __init__(self, policies: Mapping[str, ModelPolicy], fleet: Fleet | None = None, tick_s: float = 1.0) -> None:
        self.tick_s = tick_s
        self.decisions: dict[str, ModelDecision] = {}
        self._policies = dict(policies)
        self._fleet = fleet or Fleet()
        self._states = {model: ModelState() for model in policies}

    def renew(self, model: str, policy: ModelPolicy) -> None:
        """Something else is known or wanted of a size, or it is new; what is remembered of it stays."""
        self._policies[model] = policy
        self._states.setdefault(model, ModelState())

    def decide(self, signals: Mapping[str, ModelSignals], now: float) -> dict[str, int]:
        """Replicas to have of each size that has signals; why, is in ``decisions``."""
        for model, seen in signals.items():
            decision = decide(seen, self._policies[model], self._states[model], now)
            self._states[model] = decision.state
            self.decisions[model] = decision
        wanted = {model: self.decisions[model].replicas for model in signals}
        if self._fleet.gpus is not None:
            wanted = self._fit(wanted, self._fleet.gpus)
        return wanted

    def _fit(self, wanted: Mapping[str, int], gpus: int) -> dict[str, int]:
        shares = {model: self._fleet.shares.get(model, 0.0) for model in wanted}
        fitting = pack(shares, wanted, gpus, self._fleet.order).replicas
        for model, number in wanted.items():
            if fitting[model] < number:
                short = replace(self.decisions[model], replicas=fitting[model], reason="gpus")
                self.decisions[model] = short
        return dict(fitting)
