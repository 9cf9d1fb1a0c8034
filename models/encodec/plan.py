"""Which rows every stage of the codec's decoder takes, pads, cuts and keeps in one call: numbers only, no tensors.

The same arithmetic as `models.encodec.layers` does with tensors, worked out beforehand for the CPU kernel. Streams that
stand alike have equal plans, so they can share a call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from models.config import CodecConfig
from models.encodec.geometry import trim_left


class Standing(NamedTuple):
    """Where a stage stands between two calls: rows it has kept, and whether its outputs have begun."""

    kept: int = 0
    started: bool = False


@dataclass(frozen=True, slots=True)
class StageShape:
    """A stage and its window.

    Attributes:
        kind: "first", "upsample", "residual" or "last".
        channels: of a row of its input.
        outputs: of a row of its output.
        size: rows of a window.
        ratio: rows of output for each window.
        reflects: its padding repeats rows; otherwise it is zeros.
    """

    kind: str
    channels: int
    outputs: int
    size: int
    ratio: int
    reflects: bool

    @property
    def edge(self) -> int:
        """Rows of padding at either true end of a clip."""
        return 1 if self.kind == "upsample" else self.size // 2

    @property
    def trims(self) -> tuple[int, int]:
        """Rows of output to be cut at the true ends of a clip."""
        return (trim_left(self.ratio), self.ratio // 2) if self.kind == "upsample" else (0, 0)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What one stage does in one call.

    Attributes:
        before, after: for each row of padding the row that it repeats, counted from the first kept one; −1 is zeros.
        windows: how many; 0 if nothing is final yet.
        trim: rows cut from the start of the output.
        rows: of output, all final.
        left: how it stands afterwards.
    """

    kept: int
    fresh: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    windows: int
    trim: int
    rows: int
    left: Standing


def stages_of(config: CodecConfig) -> tuple[StageShape, ...]:
    """The decoder's stages, in order; the LSTM, which needs no window, stands behind the first."""
    channels, reflects = config.num_filters * 2 ** len(config.upsampling_ratios), config.pad_mode == "reflect"
    stages = [StageShape("first", config.hidden_size, channels, config.kernel_size, 1, reflects)]
    for ratio in config.upsampling_ratios:
        stages.append(StageShape("upsample", channels, channels // 2, 2, ratio, reflects=False))
        channels //= 2
        block = StageShape("residual", channels, channels, config.residual_kernel_size, 1, reflects)
        stages += [block] * config.num_residual_layers
    return (*stages, StageShape("last", channels, 1, config.last_kernel_size, 1, reflects))


def plan_stages(
    stages: tuple[StageShape, ...], standing: tuple[Standing, ...], frames: int, last: bool
) -> tuple[StagePlan, ...]:
    """What every stage does with the next frames.

    Args:
        standing: of every stage before the call.
        last: these are the last frames of their clips.
    """
    plans, fresh, runs = [], frames, True
    for stage, now in zip(stages, standing, strict=True):
        plan = _plan(stage, now, fresh, last) if runs else StagePlan(now.kept, 0, (), (), 0, 0, 0, now)
        plans.append(plan)
        runs = runs and plan.windows > 0
        fresh = plan.rows
    return tuple(plans)


def _plan(stage: StageShape, now: Standing, fresh: int, last: bool) -> StagePlan:
    keep, edge, length, first = stage.size - 1, stage.edge, now.kept + fresh, not now.started
    if first and not last and length <= keep - edge:
        return StagePlan(now.kept, fresh, (), (), 0, 0, 0, Standing(length))
    before, after = _padding(length, edge, stage.reflects)
    before, after = before if first else (), after if last else ()
    windows = len(before) + length + len(after) - keep
    cut_left, cut_right = stage.trims
    trim = cut_left if first else 0
    rows = windows * stage.ratio - trim - (cut_right if last else 0)
    return StagePlan(now.kept, fresh, before, after, windows, trim, rows, Standing(keep, started=True))


def _padding(length: int, edge: int, reflects: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sources of the rows before and after. A whole clip too short to be reflected is first extended with zeros."""
    if not reflects:
        return (-1,) * edge, (-1,) * edge
    missing = max(0, edge + 1 - length)
    before = tuple(row if row < length else -1 for row in range(edge, 0, -1))
    end = length + missing
    mirrored = tuple(row if row < length else -1 for row in range(end - 2, end - 2 - edge, -1))
    return before, ((-1,) * missing + mirrored)[:edge]
