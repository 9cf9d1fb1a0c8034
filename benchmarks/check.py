"""``make bench-check``: has a hot path become slower? Its time over a calibration's of the same run, against before.

    python -m benchmarks.check                      # exit code 1: a hot path is slower than the tolerance allows
    python -m benchmarks.check --write              # this machine's ratios become the baseline

A ratio of two times of one run says nothing of how fast a machine is, and little of how busy it is: of both the
shortest of many rounds counts. What looks slower is measured once more, and its best counts. What remains is noise, and
the tolerance is what the noise can do: this finds what has become half as fast, not what has lost five per cent.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare import NotComparableError

FOLDER = Path(__file__).parent
BASELINE = FOLDER / "results" / "hot-paths.json"
TOLERANCE = 0.6
"""Of the baseline's ratio; runs on two cores, idle and beside two other jobs, differed by up to a quarter."""
SCHEMA = 1
SLOWER, CANNOT = 1, 2

_CALIBRATION = "bench_calibration.py::test_"
HOT_PATHS: Mapping[str, str] = {
    "bench_scheduler.py::test_schedule[8-rows-no-line]": "interpreter",
    "bench_scheduler.py::test_schedule[32-rows-64-wait]": "interpreter",
    "bench_scheduler.py::test_turnover[8-rows]": "interpreter",
    "bench_scheduler.py::test_has_room[64-wait]": "interpreter",
    "bench_sampler.py::test_sample[top-k-8-rows]": "small_calls",
    "bench_sampler.py::test_mixed[8-rows]": "small_calls",
    "bench_sampler.py::test_random_numbers[16-requests]": "small_calls",
    "bench_codec.py::test_push[16-filters-10-frames]": "arithmetic",
    "bench_step.py::test_forward_step[8-rows-early]": "small_calls",
}
"""Benchmark → calibration that does the same kind of work."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Returns:
        0: nothing is slower; 1: something is; 2: there is nothing to compare with.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="file of ratios")
    parser.add_argument("--write", action="store_true", help="write that file instead of comparing with it")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"of a ratio ({TOLERANCE:g})")
    given = parser.parse_args(arguments)
    try:
        before = {} if given.write else read_baseline(given.baseline)
        now = ratios(measure(HOT_PATHS))
        if given.write:
            written = {"schema": SCHEMA, "machine": machine(), "ratios": now}
            given.baseline.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
            print(f"{len(now)} ratios are in {given.baseline}")
            return 0
        if suspects := slower(before, now, given.tolerance):
            again = ratios(measure(suspects))
            now |= {name: min(now[name], again[name]) for name in suspects}
        fallen = slower(before, now, given.tolerance)
    except (NotComparableError, OSError) as error:
        print(f"Cannot compare: {error}", file=sys.stderr)
        return CANNOT
    print("\n".join(lines(before, now, given.tolerance)))
    print(json.dumps({"benchmark": "check", "slower": fallen, "tolerance": given.tolerance, "ratios": now}))
    return SLOWER if fallen else 0


def measure(names: Iterable[str]) -> dict[str, float]:
    """Shortest time of each benchmark and of every calibration, in seconds, by its name without the folder.

    Raises:
        NotComparableError: the benchmarks do not run.
    """
    wanted = [FOLDER / name for name in [*names, "bench_calibration.py"]]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "times.json"
        command = [sys.executable, "-m", "pytest", *map(str, wanted), "-o", "python_files=bench_*.py", "-q"]
        command += ["-p", "no:cacheprovider", "--benchmark-only", f"--benchmark-json={file}"]
        ran = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise NotComparableError(f"the benchmarks do not run: {ran.stdout[-2000:]}{ran.stderr[-500:]}")
        found = json.loads(file.read_text(encoding="utf-8"))["benchmarks"]
    return {each["fullname"].rpartition("/")[2]: float(each["stats"]["min"]) for each in found}


def ratios(times: Mapping[str, float]) -> dict[str, float]:
    """Each hot path's time in multiples of its calibration's, of the same run."""
    return {
        name: float(f"{time_s / times[_CALIBRATION + HOT_PATHS[name]]:.4g}")
        for name, time_s in times.items()
        if name in HOT_PATHS
    }


def machine() -> dict[str, Any]:
    """What decides in which proportion times stand to one another."""
    import torch

    return {"capability": torch.backends.cpu.get_cpu_capability(), "python": platform.python_version_tuple()[:2]}


def read_baseline(path: Path) -> dict[str, float]:
    """
    Raises:
        NotComparableError: it is none, or of a machine of another kind.
        OSError: it can not be read.
    """
    how = f"write one with python -m benchmarks.check --write --baseline {path}"
    try:
        baseline = json.loads(path.read_text(encoding="utf-8"))
        found, here = baseline["machine"], json.loads(json.dumps(machine()))
        before = {str(name): float(ratio) for name, ratio in baseline["ratios"].items()}
        schema = baseline["schema"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotComparableError(f"{path} is no baseline of hot paths: {how}") from None
    if schema != SCHEMA or found != here:
        raise NotComparableError(f"{path} is of {found}, this machine is {here}: {how}")
    if missing := sorted(set(HOT_PATHS) - set(before)):
        raise NotComparableError(f"{path} has no {missing[0]}: {how}")
    return before


def slower(before: Mapping[str, float], now: Mapping[str, float], tolerance: float) -> list[str]:
    """Names of those whose ratio has grown by more than the tolerance."""
    return [name for name in now if now[name] > before[name] * (1 + tolerance)]


def lines(before: Mapping[str, float], now: Mapping[str, float], tolerance: float) -> list[str]:
    """For people."""
    told = [f"{'hot path':68} {'baseline':>10} {'now':>10}  times its calibration"]
    for name in now:
        mark = "  SLOWER" if now[name] > before[name] * (1 + tolerance) else ""
        told.append(f"{name:68} {before[name]:10.3f} {now[name]:10.3f}  {now[name] / before[name]:.2f}{mark}")
    return told


if __name__ == "__main__":
    raise SystemExit(main())
