"""What is promised to whom, for code that decides whether a request was good. Loads no more than YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dashboards.openslo import SLO_FILE, Slo, load_specification


@dataclass(frozen=True, slots=True)
class Objectives:
    """Thresholds and objectives of every SLI and tier. Lookups raise KeyError for a name that is not in the file.

    Attributes:
        slis: names as in the label ``sli`` of ``tutti_sli_events_total``, in the file's order.
        tiers: names as in the label ``tier``, highest first.
        window: over which the error budget is counted, as Prometheus writes durations.
        slos: all of it, by SLI and tier.
        deadlines: by tier, seconds and seconds per second of audio.
    """

    slis: tuple[str, ...]
    tiers: tuple[str, ...]
    window: str
    slos: Mapping[tuple[str, str], Slo]
    deadlines: Mapping[str, tuple[float, float]]

    def threshold(self, sli: str, tier: str) -> float | None:
        """Seconds up to which a request is good; None if the SLI is not a time, or depends on the audio's length."""
        return self.slos[sli, tier].threshold_s

    def objective(self, sli: str, tier: str) -> float:
        """Share of good events that is promised, in (0, 1)."""
        return self.slos[sli, tier].objective

    def deadline(self, tier: str, duration_s: float) -> float:
        """Seconds after its acceptance by which a job of so many seconds of audio is promised to be done."""
        base_s, per_audio_s = self.deadlines[tier]
        return base_s + per_audio_s * duration_s


def load_objectives(path: Path = SLO_FILE) -> Objectives:
    """Read ``slo.yaml``.

    Raises:
        SloFileError: the file is broken; the message names the document and the field.
    """
    read = load_specification(path)
    slos = {(slo.sli, slo.tier): slo for slo in read.slos}
    deadlines = {slo.tier: slo.deadline for slo in read.slos if slo.deadline}
    return Objectives(read.slis, read.tiers, read.window, slos, deadlines)
