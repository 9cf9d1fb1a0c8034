"""Does the CPU kernel run on this machine? Asked in a process of its own: the API loads no torch."""

from __future__ import annotations

import subprocess
import sys

from api.doctor import Finding, Status

COMMAND = (sys.executable, "-m", "models.kernels.cpu")
_PATIENCE_S = 300  # the first time it is compiled


def check_cpu_kernel(command: tuple[str, ...] = COMMAND) -> Finding:
    """Compile it if need be."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("CPU kernel", Status.WARN, f"cannot be asked: {error}", "make install")
    told = " ".join(done.stdout.split()) or " ".join(done.stderr.split()[-20:])
    if done.returncode == 0:
        return Finding("CPU kernel", Status.OK, told)
    mend = "mend what it says; until then models on a CPU run several times slower"
    return Finding("CPU kernel", Status.WARN, told, mend)
