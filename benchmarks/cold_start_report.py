"""What `benchmarks.cold_start` has measured, for people and as numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

_BAR = 40


def summary(starts: Sequence[Mapping[str, Any]], budget_s: float) -> dict[str, Any]:
    """Medians over the starts, and whether the median of the whole is within the budget."""
    heard = [each["first_audio_s"] for each in starts]
    wholes = [each["whole_s"] for each in starts]
    memory = {name: statistics.median(each["memory"][name] for each in starts) for name in starts[0]["memory"]}
    stages = {name: statistics.median(each["stages"][name] for each in starts) for name in starts[0]["stages"]}
    return {
        "benchmark": "cold_start",
        "starts": len(starts),
        "weights_are": starts[0]["weights"],
        "whole_s": {"median": statistics.median(wholes), "min": min(wholes), "max": max(wholes)},
        "processor_s": statistics.median(each["processor_s"] for each in starts),
        "stages_s": stages,
        "first_audio_s": [statistics.median(times) for times in zip(*heard, strict=True)],
        "read_bytes": statistics.median(each["read_bytes"] for each in starts),
        "memory_bytes": memory,
        "budget_s": budget_s,
        "within_budget": statistics.median(wholes) <= budget_s,
    }


def ratios(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of medians, to those of the starts that pack for themselves."""
    off = next(each for each in results if each["cache"] == "off")
    return {
        f"{each['cache']} / off": {
            "whole": round(each["whole_s"]["median"] / off["whole_s"]["median"], 3),
            "processor": round(each["processor_s"] / off["processor_s"], 3),
            "private_memory": round(each["memory_bytes"]["private"] / off["memory_bytes"]["private"], 3),
            "share_of_memory": round(each["memory_bytes"]["share"] / off["memory_bytes"]["share"], 3),
        }
        for each in results
        if each is not off
    }


def lines(result: Mapping[str, Any]) -> list[str]:
    """To be read by people: every bar begins where the one above it ends."""
    whole = result["whole_s"]
    total = max(sum(result["stages_s"].values()), 1e-9)
    told, passed = [], 0.0
    for name, seconds in result["stages_s"].items():
        begin, end = (round(_BAR * min(1.0, max(0.0, at) / total)) for at in (passed, passed + seconds))
        told.append(f"  {name:10} {seconds:7.2f} s  |{' ' * begin}{'█' * max(0, end - begin):{_BAR - begin}}|")
        passed += seconds
    first, second = (f"{1000 * seconds:,.0f} ms" for seconds in result["first_audio_s"])
    within = "within" if result["within_budget"] else "ABOVE"
    conditions = [
        f"{result['starts']} starts",
        f"weights {result['weights_are']}",
        f"{'not in' if result['cold'] else 'in'} the page cache",
        f"kernel {'compiled anew' if result['compile'] else 'kept'}",
        f"{result['read_bytes'] / 1e6:,.0f} MB read from storage",
    ]
    held = {name: f"{held / 1e6:,.0f} MB" for name, held in result["memory_bytes"].items()}
    spread = f"[{whole['min']:.2f}, {whole['max']:.2f}]"
    return [
        f"{result['model']}, {result['weights']}, medians: {', '.join(conditions)}",
        *told,
        f"  {'whole':10} {whole['median']:7.2f} s  {spread}, {within} the budget of {result['budget_s']:g} s",
        f"  first audio afterwards {first}, of the next track {second}; start: {result['processor_s']:.2f} processor s",
        f"  memory: {held['resident']} resident, {held['share']} with shared pages divided, {held['private']} private",
    ]
