"""Which service levels one request met, by what its client saw, and what many of them say of the objectives.

Clients that misbehave on purpose are not judged: what they suffer is their own doing. What is not eligible has no
entry: a refusal for the account's own limits says nothing of admission, a stream that never played nothing of
continuity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from benchmarks.serve_load.outcome import Outcome
from benchmarks.serve_load.statistics import Share, needed

SLIS = ("ttfa", "continuity", "success", "admission", "deadline", "validity")


class Objectives(Protocol):
    """What is promised (``dashboards.objectives``)."""

    @property
    def tiers(self) -> tuple[str, ...]: ...
    def threshold(self, sli: str, tier: str) -> float | None: ...
    def objective(self, sli: str, tier: str) -> float: ...
    def deadline(self, tier: str, duration_s: float) -> float: ...


def judge(outcome: Outcome, objectives: Objectives) -> dict[str, bool]:
    """Each service level that this request says something of, and whether it was met.

    Who gives up waiting has seen a promise broken only if the time that was promised had passed by then.
    """
    if outcome.planned.fault is not None or outcome.result in {"rate_limited", "invalid"}:
        return {}
    if outcome.result == "refused":
        return {"admission": False}
    verdicts = {} if outcome.code == "connect_timeout" else {"admission": True}
    if outcome.result != "cancelled":
        verdicts["success"] = outcome.result == "completed"
    tier = outcome.planned.tier
    if outcome.planned.mode == "stream":
        return verdicts | _heard(
            outcome, _threshold(objectives, "ttfa", tier), _threshold(objectives, "continuity", tier)
        )
    promised_s = objectives.deadline(tier, outcome.planned.duration_s)
    if outcome.result == "completed" or outcome.took_s > promised_s:
        verdicts["deadline"] = outcome.result == "completed" and outcome.took_s <= promised_s
    return verdicts


def _heard(outcome: Outcome, first_audio_within_s: float, stall_within_s: float) -> dict[str, bool]:
    verdicts = {}
    if outcome.first_audio_s is not None:
        verdicts["ttfa"] = outcome.first_audio_s <= first_audio_within_s
    elif outcome.took_s > first_audio_within_s:
        verdicts["ttfa"] = False
    if outcome.stall_s is not None:
        verdicts["continuity"] = outcome.stall_s <= stall_within_s
    if outcome.is_valid is not None:
        verdicts["validity"] = outcome.is_valid
    return verdicts


def _threshold(objectives: Objectives, sli: str, tier: str) -> float:
    within_s = objectives.threshold(sli, tier)
    assert within_s is not None, f"{sli} is a time"
    return within_s


def is_good(outcome: Outcome, verdicts: Mapping[str, bool]) -> bool:
    """Completed, and everything that was promised was kept."""
    return outcome.result == "completed" and bool(verdicts) and all(verdicts.values())


def attainment(
    judged: Iterable[tuple[Outcome, Mapping[str, bool]]], objectives: Objectives, target: float | None = None
) -> list[dict[str, Any]]:
    """One line for each tier and service level that something was said of.

    Args:
        target: instead of the objectives' own share of good events.
    """
    counts: dict[tuple[str, str], list[int]] = {}
    for outcome, verdicts in judged:
        for sli, is_met in verdicts.items():
            count = counts.setdefault((outcome.planned.tier, sli), [0, 0])
            count[0] += is_met
            count[1] += 1
    order = sorted(counts, key=lambda key: (_rank(objectives.tiers, key[0]), SLIS.index(key[1])))
    return [_line(tier, sli, Share(*counts[tier, sli]), objectives, target) for tier, sli in order]


def _line(tier: str, sli: str, share: Share, objectives: Objectives, target: float | None) -> dict[str, Any]:
    objective = objectives.objective(sli, tier) if target is None else target
    return {
        "tier": tier,
        "sli": sli,
        "threshold_s": objectives.threshold(sli, tier),
        "objective": objective,
        **share.as_dict(),
        "verdict": share.verdict(objective),
        "needed": needed(objective),
    }


def _rank(tiers: Sequence[str], tier: str) -> int:
    return tiers.index(tier) if tier in tiers else len(tiers)
