"""A part of a core for each replica, held by the kernel: fractional CPUs stand for GPUs.

Two replicas that may take all of two cores are slowed by each other, by the gateway and by the load generator, as no
GPU would be. With a quota of its own each is as fast alone as beside others.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from models.errors import TuttiError

_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
_PERIOD_US = 10_000
"""Short, so that a step is made evenly slower and not now and then by a tenth of a second."""


class QuotaError(TuttiError):
    """The kernel's control groups cannot be used; the message says what to do."""


class CpuQuota:
    """
    Args:
        share: of a core, of each process; 0: as much as there is.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._groups: list[Path] = []

    def __enter__(self) -> CpuQuota:
        return self

    def __exit__(self, *_: object) -> None:
        """The processes have ended: their groups are removed."""
        for group in self._groups:
            with suppress(OSError):  # a process that is still ending; the empty group is gone with the machine
                group.rmdir()

    def confine(self, pid: int) -> None:
        """This process gets its share from now on; nothing happens if it has ended.

        Raises:
            QuotaError: it may not be set here.
        """
        if not self._share:
            return
        is_v1 = (_V1 / "cpu.cfs_quota_us").exists() or (_V1 / "tasks").exists()
        group = (_V1 if is_v1 else _V2) / f"tutti-check-{pid}"
        quota_us = int(self._share * _PERIOD_US)
        try:
            group.mkdir(exist_ok=True)
            self._groups.append(group)
            if is_v1:
                (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(quota_us))
            else:
                (group / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
            (group / "cgroup.procs").write_text(str(pid))
        except ProcessLookupError:
            return
        except OSError as error:
            raise QuotaError(
                f"{group}: {error.strerror}: a share of a core needs root and the cpu controller of cgroups; "
                "--cpu-share 0 does without"
            ) from error
