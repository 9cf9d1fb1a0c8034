"""Runs of both sides become medians, ratios and shares of the ceiling; then lines to read, and one to parse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.ceiling import Peaks, Work, floor_s
from benchmarks.sides import Made
from benchmarks.workload import Stream

SCHEMA = 1
"""Of the JSON line; goes up when a key changes its name or its meaning."""

RATIOS = ("steps_per_s", "real_time_factor", "first_audio", "last_first_audio", "cpu_s")

Pairs = Sequence[tuple[Made, Made]]
"""(ours, theirs) of each repeat, run one right after the other."""


@dataclass(frozen=True, slots=True)
class Case:
    """One set of streams, and what it takes at best."""

    streams: Sequence[Stream]
    frame_rate: int
    work: Work
    peaks: Peaks

    @property
    def audio_s(self) -> float:
        """Seconds of music that were asked for; what a side pads is not counted."""
        return sum(stream.frames for stream in self.streams) / self.frame_rate

    @property
    def floor_s(self) -> float:
        return floor_s(self.work, self.peaks)

    @property
    def title(self) -> str:
        seconds = sorted({stream.frames / self.frame_rate for stream in self.streams})
        span = f"{seconds[0]:g} s" if len(seconds) == 1 else f"{seconds[0]:g} to {seconds[-1]:g} s"
        count = len(self.streams)
        return f"{count} stream{'' if count == 1 else 's'} of {span}, {self.audio_s:g} s of audio"


def figures(case: Case, pairs: Pairs) -> dict[str, Any]:
    """What goes into the JSON line of one case."""
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    rows_per_step = median(made.rows_per_step for made in ours)
    return {
        "streams": len(case.streams),
        "audio_s": case.audio_s,
        "frames_asked": [stream.frames for stream in case.streams],
        "ceiling": {
            "weight_bytes_per_step": case.work.weight_bytes,
            "kv_bytes_per_step": round(case.work.kv_bytes / case.work.steps),
            "bytes_per_s": round(case.peaks.near),
            "floor_s": case.floor_s,
            "steps_per_s": case.work.steps / case.floor_s,
            "real_time_factor": case.audio_s / case.floor_s,
        },
        "tutti": _side(case, ours) | {"rows_per_step": rows_per_step, "stages": _stages(ours)},
        "transformers": _side(case, theirs),
        "ratio": _ratios(pairs),
    }


def _side(case: Case, made: Sequence[Made]) -> dict[str, Any]:
    return {
        "wall_s": median(each.wall_s for each in made),
        "cpu_s": median(each.cpu_s for each in made),
        "steps_per_s": median(each.steps / each.wall_s for each in made),
        "real_time_factor": median(case.audio_s / each.wall_s for each in made),
        "first_audio_s": median(median(each.first_audio_s) for each in made),
        "last_first_audio_s": median(max(each.first_audio_s) for each in made),
        "share_of_ceiling": median(case.floor_s / each.wall_s for each in made),
        "frames": list(made[0].frames),
    }


def _ratios(pairs: Pairs) -> dict[str, float]:
    """How many times better we are: medians over the pairs, so that a slow minute hits both sides of a ratio."""
    values = (
        _ratio((a.steps / a.wall_s, b.steps / b.wall_s) for a, b in pairs),
        _ratio((b.wall_s, a.wall_s) for a, b in pairs),
        _ratio((median(b.first_audio_s), median(a.first_audio_s)) for a, b in pairs),
        _ratio((max(b.first_audio_s), max(a.first_audio_s)) for a, b in pairs),
        _ratio((b.cpu_s, a.cpu_s) for a, b in pairs),
    )
    return dict(zip(RATIOS, values, strict=True))


def _ratio(pairs: Iterable[tuple[float, float]]) -> float:
    return median(above / below for above, below in pairs)


def _stages(made: Sequence[Made]) -> dict[str, float]:
    """Shares of the time in steps."""
    seconds = {stage: median(each.stages[stage] for each in made) for stage in made[0].stages}
    total = sum(seconds.values())
    return {stage: value / total for stage, value in seconds.items()}


def ceiling_lines(cases: Sequence[Case], weights: str) -> list[str]:
    """Bytes of a step and measured peaks; comes first, before anybody has run."""
    peaks = cases[0].peaks
    lines = [
        f"Ceiling of {weights}",
        f"  memory is copied at {peaks.copy / 1e9:.1f} GB/s (read and written counted)",
        f"  one large matrix product runs at {peaks.matmul / 1e9:,.0f} GFLOP/s",
    ]
    for case in cases:
        work = case.work
        read, kv = work.weight_bytes / 1e6, work.kv_bytes / work.steps / 1e6
        gflop = (work.decoder_flop + work.codec_flop) / case.audio_s / 1e9
        steps, speed = work.steps / case.floor_s, case.audio_s / case.floor_s
        lines.append(f"  {case.title}:")
        lines.append(f"    a step reads {read:.1f} MB of weights and {kv:.1f} MB of keys and values (mean),")
        lines.append(f"    so many bytes are moved at {case.peaks.near / 1e9:.1f} GB/s")
        lines.append(
            f"    {gflop:.1f} GFLOP per second of audio; at best {steps:,.0f} steps/s, {speed:,.1f}× real time"
        )
    return lines


def comparison_lines(case: Case, repeats: int, result: dict[str, Any]) -> list[str]:
    """One table."""
    runs = "one run of each" if repeats == 1 else f"medians of {repeats} runs of each, in turn"
    ceiling, ours, ratio = result["ceiling"], result["tutti"], result["ratio"]
    stages = ", ".join(f"{stage} {share:.0%}" for stage, share in ours["stages"].items())
    return [
        f"{case.title}; {runs}",
        _line("", "steps/s", "× real time", "first audio", "the last one", "CPU time", "of ceiling"),
        _line("ceiling", f"{ceiling['steps_per_s']:.1f}", f"{ceiling['real_time_factor']:.2f}"),
        *(_line(name, *_cells(result[name])) for name in ("tutti", "transformers")),
        _line("Tutti is better by", *(f"{ratio[key]:.2f}×" for key in RATIOS)),
        f"  Tutti's time: {stages}; {ours['rows_per_step']:.1f} rows per step",
    ]


def _cells(side: dict[str, Any]) -> list[str]:
    return [
        f"{side['steps_per_s']:.1f}",
        f"{side['real_time_factor']:.2f}",
        *(f"{side[key]:.3f} s" for key in ("first_audio_s", "last_first_audio_s", "cpu_s")),
        f"{side['share_of_ceiling']:.1%}",
    ]


def _line(name: str, *cells: str) -> str:
    return f"  {name:18}" + "".join(f"{cell:>14}" for cell in cells)
