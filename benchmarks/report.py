"""Runs of all sides become medians, spreads, ratios and shares of the ceiling; then lines to read, and one to parse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.ceiling import Peaks, Work, floor_s
from benchmarks.measure import Measured, Pairs, Peer
from benchmarks.sides import Made
from benchmarks.workload import Stream

SCHEMA = 2
"""Of the JSON line; goes up when a key changes its name or its meaning."""

HEADLINE = (
    "steps_per_second",
    "realtime_factor",
    "ceiling_steps_per_second",
    "time_to_first_audio_s",
    "share_of_ceiling",
    "peers",
)
"""Keys of the first workload that stand at the top of the JSON line, too."""


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
    def workload(self) -> str:
        """Its name in the JSON line."""
        return f"batch-{len(self.streams)}"

    @property
    def title(self) -> str:
        seconds = sorted({stream.frames / self.frame_rate for stream in self.streams})
        span = f"{seconds[0]:g} s" if len(seconds) == 1 else f"{seconds[0]:g} to {seconds[-1]:g} s"
        count = len(self.streams)
        return f"{count} stream{'' if count == 1 else 's'} of {span}, {self.audio_s:g} s of audio"


# --------------------------------------------------------------------------------------------------------- figures

_FIGURES: Mapping[str, Callable[[Made], float]] = {
    "steps_per_second": lambda made: made.steps / made.wall_s,
    "time_to_first_audio_s": lambda made: median(made.first_audio_s),
    "last_first_audio_s": lambda made: max(made.first_audio_s),
    "cpu_s": lambda made: made.cpu_s,
    "wall_s": lambda made: made.wall_s,
}


def figures(case: Case, measured: Measured, peers: Sequence[Peer]) -> dict[str, Any]:
    """What goes into the JSON line of one workload."""
    ours = measured.ours
    return {
        "workload": case.workload,
        "title": case.title,
        "streams": len(case.streams),
        "audio_s": case.audio_s,
        "frames_asked": [stream.frames for stream in case.streams],
        "ceiling": {
            "weight_bytes_per_step": case.work.weight_bytes,
            "kv_bytes_per_step": round(case.work.kv_bytes / case.work.steps),
            "flop": case.work.decoder_flop + case.work.codec_flop,
            "bytes_per_s": round(case.peaks.near),
            "copy_bytes_per_s": round(case.peaks.copy),
            "flop_per_s": round(case.peaks.matmul),
            "floor_s": case.floor_s,
            "realtime_factor": case.audio_s / case.floor_s,
        },
        "ceiling_steps_per_second": case.work.steps / case.floor_s,
        "share_of_ceiling": median(case.floor_s / made.wall_s for made in ours),
        "best_share_of_ceiling": case.floor_s / min(made.wall_s for made in ours),
        "rows_per_step": median(made.rows_per_step for made in ours),
        "stages": _stages(ours),
        **_side(case, ours),
        "peers": {str(peer.name): _peer(case, measured.pairs.get(str(peer.name), ()), peer) for peer in peers},
    }


def _side(case: Case, made: Sequence[Made]) -> dict[str, Any]:
    values = {name: [figure(each) for each in made] for name, figure in _FIGURES.items()}
    values["realtime_factor"] = [_asked_frames(case, each) / case.frame_rate / each.wall_s for each in made]
    return {
        **{name: median(each) for name, each in values.items()},
        "spread": {name: [min(each), max(each)] for name, each in values.items()},
        "runs": len(made),
        "frames": list(made[0].frames),
    }


def _asked_frames(case: Case, made: Made) -> float:
    """Without padding; a side that got shorter streams than the case's was asked for as much less."""
    longest = max(stream.frames for stream in case.streams)
    return sum(stream.frames for stream in case.streams) * max(made.frames) / longest


def _peer(case: Case, pairs: Pairs, peer: Peer) -> dict[str, Any]:
    """Ratios are medians over the pairs, so that a slow minute hits both sides of each."""
    if not pairs:
        return {"missing": peer.missing or "not run: another workload's"}
    ratios = {
        "ratio": [theirs.wall_s / ours.wall_s for ours, theirs in pairs],
        "first_audio_ratio": [median(theirs.first_audio_s) / median(ours.first_audio_s) for ours, theirs in pairs],
        "cpu_ratio": [theirs.cpu_s / ours.cpu_s for ours, theirs in pairs],
    }
    result = _side(case, [theirs for _, theirs in pairs])
    for name, values in ratios.items():
        result[name] = median(values)
        result["spread"][name] = [min(values), max(values)]
    # Others on the machine can only slow a run down: the fastest of each side is the steadiest ratio there is.
    result["best_ratio"] = min(theirs.wall_s for _, theirs in pairs) / min(ours.wall_s for ours, _ in pairs)
    return result | {"agreement": peer.agreement.as_dict() if peer.agreement else None}


def _stages(made: Sequence[Made]) -> dict[str, float]:
    """Shares of the time in steps."""
    seconds = {stage: median(each.stages[stage] for each in made) for stage in made[0].stages}
    total = sum(seconds.values())
    return {stage: value / total for stage, value in seconds.items()}


def headline(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first workload's figures, for the top of the JSON line."""
    return {key: runs[0][key] for key in HEADLINE}


# ----------------------------------------------------------------------------------------------------------- lines


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


def comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """One table; each figure with its smallest and largest."""
    stages = ", ".join(f"{stage} {share:.0%}" for stage, share in result["stages"].items())
    head = ("steps/s", "× real time", "first audio", "CPU time", "Tutti is better by")
    lines = [f"{result['title']}; medians [smallest, largest] of {result['runs']} runs", _line("", *head)]
    ceiling = (f"{result['ceiling_steps_per_second']:,.1f}", f"{result['ceiling']['realtime_factor']:,.2f}")
    lines += [
        _line("ceiling", *ceiling),
        _line("tutti", *_cells(result), f"{result['share_of_ceiling']:.1%} of ceiling"),
    ]
    for name, peer in result["peers"].items():
        if "missing" in peer:
            lines.append(f"  {name:26} {peer['missing']}")
            continue
        lines.append(
            _line(name, *_cells(peer), f"{peer['ratio']:.2f}×{_spread(peer, 'ratio', '.2f')}{_notes(result, peer)}")
        )
    return [*lines, f"  Tutti's time: {stages}; {result['rows_per_step']:.1f} rows per step"]


def _notes(result: Mapping[str, Any], peer: Mapping[str, Any]) -> str:
    """What is unlike the others about a peer's runs."""
    notes = []
    if max(peer["frames"]) < max(result["frames_asked"]):
        notes.append(f"up to {max(peer['frames'])} frames only")
    if peer["agreement"] is not None and peer["agreement"]["equal"] < 1:
        notes.append(f"{peer['agreement']['equal']:.0%} of its greedy codes as in fp32")
    return f" ({'; '.join(notes)})" if notes else ""


def _cells(side: Mapping[str, Any]) -> list[str]:
    return [
        f"{side['steps_per_second']:.1f}{_spread(side, 'steps_per_second', '.1f')}",
        f"{side['realtime_factor']:.2f}",
        f"{side['time_to_first_audio_s']:.3f} s",
        f"{side['cpu_s']:.2f} s",
    ]


def _spread(side: Mapping[str, Any], name: str, form: str) -> str:
    low, high = side["spread"][name]
    return f" [{low:{form}}, {high:{form}}]"


def _line(name: str, *cells: str) -> str:
    widths = (26, 14, 14, 12)
    padded = [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False)]
    return f"  {name:22}" + "".join([*padded, *(f"   {cell}" for cell in cells[len(widths) :])])
