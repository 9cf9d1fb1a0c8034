"""The policy "demand" as Ray Serve's controller calls it: an application policy over all model sizes.

In Ray 2.60 an application policy that raises freezes the deploys and the status of every application, so this one never
does: whatever goes wrong, replicas stay as many as they are, and a line in the log says why. Serve pickles this module
by value; what it imports must be installed where the controller runs.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from autoscaling.demand import DemandPolicy
from deployments.demand_metrics import DecisionMeter, Standing, shown
from deployments.demand_settings import DemandSettings
from deployments.demand_signals import Readings, Seen, Sources, Starts, read_model, state_of

LOGS: Final = "api.logs"  # above this package, so it is named as text
SERVICE: Final = "tutti-autoscaler"
PREFIX: Final = "musicgen-"  # of the deployments that are models
_COMPLAIN_EVERY_S: Final = 60.0


class DemandAutoscaling:
    """Made once by the controller, then called at every tick.

    Args:
        options: of ``deployments.demand_settings.DemandSettings``; with bad ones nothing is ever changed.
    """

    def __init__(self, **options: Any) -> None:
        self._log: Any = None
        self._complained: dict[str, float] = {}
        self._answer: dict[str, tuple[int, Mapping[str, Any]]] = {}  # model → what was decided last
        self._decided_at = -math.inf
        self._starts: dict[str, Starts] = {}
        self._capacity: dict[str, float] = {}  # model → as measured last, for when it sleeps
        self._settings: DemandSettings | None = None
        self._policy = DemandPolicy({})
        self._meter: DecisionMeter | None = None
        try:
            self._log = importlib.import_module(LOGS).make_logger(
                os.environ.get("TUTTI_LOG_LEVEL", "info"), service=SERVICE
            )
            self._settings = DemandSettings(**options)
            self._policy = DemandPolicy({}, self._settings.fleet, self._settings.decide_every_s)
        except Exception as error:  # noqa: BLE001 - it would freeze every application of the cluster
            self._complain("options", error, 0.0)

    def __call__(self, contexts: Mapping[Any, Any]) -> tuple[dict[Any, int], dict[Any, dict[str, Any]]]:
        """Replicas to have of each deployment, and how that was found; never raises.

        Args:
            contexts: deployment id → Serve's ``AutoscalingContext``.
        """
        wanted = _targets(contexts)
        states: dict[Any, dict[str, Any]] = {}
        try:
            self._decide(contexts, wanted, states)
        except Exception as error:  # noqa: BLE001 - it would freeze every application of the cluster
            self._complain("all", error, 0.0)
            return _targets(contexts), {}
        _aim(contexts, wanted)
        return wanted, states

    def _decide(self, contexts: Mapping[Any, Any], wanted: dict[Any, int], states: dict[Any, dict[str, Any]]) -> None:
        if self._settings is None:
            return
        served = {each.name.removeprefix(PREFIX): each for each in wanted if each.name.startswith(PREFIX)}
        models = {model: contexts[key] for model, key in served.items() if model in self._settings.models}
        now = max((float(context.current_time) for context in models.values()), default=0.0)
        for model in served.keys() - models.keys():
            self._complain(model, LookupError("policy_kwargs.models does not describe it"), now)
        for model, context in models.items():
            starts = self._starts.setdefault(model, Starts())
            if starts.look(int(context.current_num_replicas), int(context.target_num_replicas), now):
                self._check_budget(model, starts.measured_s or 0.0)
        if not 0 <= now - self._decided_at < self._settings.decide_every_s or set(models) != set(self._answer):
            self._answer = self._look(contexts, models, now)
            self._decided_at = now
        for model, (replicas, state) in self._answer.items():
            wanted[served[model]], states[served[model]] = replicas, dict(state)

    def _look(
        self, contexts: Mapping[Any, Any], models: Mapping[str, Any], now: float
    ) -> dict[str, tuple[int, Mapping[str, Any]]]:
        named = {each.name: context for each, context in contexts.items()}
        sources = Sources(Readings(named.get("Gateway"), now), Readings(named.get("Worker"), now))
        seen: dict[str, Seen] = {}
        for model, context in models.items():
            try:
                seen[model] = self._read(model, context, sources, now)
            except Exception as error:  # noqa: BLE001 - the other sizes are decided all the same
                self._complain(model, error, now)
        decided = self._policy.decide({model: each.signals for model, each in seen.items()}, now)
        self._show(seen, decided, now)
        found: dict[str, tuple[int, Mapping[str, Any]]] = {}
        for model, context in models.items():
            if model in decided:
                state = state_of(self._policy.decisions[model], seen[model], self._answer.get(model, (None, {}))[0])
                self._tell(model, state)
                found[model] = (decided[model], state)
            else:
                found[model] = (int(context.target_num_replicas), {})
        return found

    def _read(self, model: str, context: Any, sources: Sources, now: float) -> Seen:
        assert self._settings is not None, "nothing is read without settings"
        demand = self._settings.models[model]
        seen = read_model(model, context, demand, sources, self._starts[model], now)
        least, most = int(context.capacity_adjusted_min_replicas), int(context.capacity_adjusted_max_replicas)
        capacity = self._capacity[model] = seen.capacity or self._capacity.get(model, 0.0)
        self._policy.renew(model, demand.policy(least, most, capacity, seen.cold_start_s))
        return seen

    def _check_budget(self, model: str, took_s: float) -> None:
        """One line for each start that took longer than the settings say: listeners were told less."""
        assert self._settings is not None, "nothing is started without settings"
        budget_s = self._settings.models[model].cold_start_s
        if self._meter is not None:
            self._meter.started(model, took_s, over_budget=took_s > budget_s)
        if self._log is not None and took_s > budget_s:
            self._log.warning("cold_start_over_budget", model=model, took_s=round(took_s, 1), budget_s=budget_s)

    def _tell(self, model: str, state: Mapping[str, Any]) -> None:
        """One line for each change, and for when the signals are lost or found."""
        before = self._answer.get(model, (None, {}))[1]
        changed = before.get("replicas") != state["replicas"]
        changed |= (before.get("reason") == "stale") != (state["reason"] == "stale")
        if self._log is not None and changed:
            self._log.info("autoscaler_decided", model=model, replicas_before=before.get("replicas"), **state)
        if self._meter is not None:
            self._meter.decided(model, state["components"], state["action"], state["reason"], changed=changed)

    def _show(self, seen: Mapping[str, Seen], decided: Mapping[str, int], now: float) -> None:
        """The metrics; a platform that cannot show them is scaled all the same."""
        assert self._settings is not None, "nothing is shown without settings"
        try:
            self._meter = self._meter or shown()
            standings = {
                model: Standing(
                    decided[model],
                    each.serving,
                    each.busy,
                    len(each.signals.starting_in_s),
                    each.serves_in_s,
                    self._settings.models[model].gpu_share,
                    each.due,
                )
                for model, each in seen.items()
            }
            self._meter.look(standings, now)
        except Exception as error:  # noqa: BLE001 - it would freeze every application of the cluster
            self._complain("metrics", error, now)

    def _complain(self, about: str, error: Exception, now: float) -> None:
        """Once a minute, for it comes ten times a second; in a way that cannot fail itself."""
        with suppress(Exception):
            key = f"{about}: {type(error).__name__}"
            if not 0 <= now - self._complained.get(key, -math.inf) < _COMPLAIN_EVERY_S:
                self._complained[key] = now
                self._log.error("autoscaler_held", about=about, error=type(error).__name__, why=str(error)[:500])


def _aim(contexts: Mapping[Any, Any], wanted: Mapping[Any, int]) -> None:
    """Where somebody waits and no replica serves, Ray 2.60 takes for the answer what it aimed at before, or one, and a
    crowd would wait for two starts in a row: here it aims at what was decided."""
    with suppress(Exception):
        for each, replicas in wanted.items():
            if contexts[each].current_num_replicas == 0 and replicas > contexts[each].target_num_replicas:
                contexts[each].target_num_replicas = replicas


def _targets(contexts: Any) -> dict[Any, int]:
    """As many as there shall be already; nothing is said of a deployment that does not say."""
    targets: dict[Any, int] = {}
    with suppress(Exception):
        for each, context in contexts.items():
            with suppress(Exception):
                targets[each] = max(0, int(context.target_num_replicas))
    return targets
