"""Looks at this machine and this checkout as ``tutti serve`` would, and says what is wrong and how to mend it.

Every check is a function that returns a Finding and never raises for what it looks for. Nothing here loads torch:
a diagnosis takes a second and works where a broken torch would not even import.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib import metadata
from pathlib import Path

from models.errors import TuttiError

REPOSITORY = Path(__file__).resolve().parents[1]
TORCH_VERSION = "2.13.0"
GIB = 1024**3
MIN_DISK_BYTES = 2 * GIB
MIN_MEMORY_BYTES = 2 * GIB
MIN_SHM_BYTES = GIB // 4


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw.

    Attributes:
        name: of the check.
        status: fail means that ``tutti serve`` would not work; warn that it would work badly.
        detail: what is there.
        mend: what to do; empty when all is well.
    """

    name: str
    status: Status
    detail: str
    mend: str = ""


def diagnose(config: Path, host: str, port: int) -> list[Finding]:
    """Run every check, in the order in which a newcomer would have to mend things."""
    return [check() for check in _checks(config, host, port)]


def _checks(config: Path, host: str, port: int) -> Iterator[Callable[[], Finding]]:
    from api.doctor_kernel import check_cpu_kernel
    from api.doctor_port import check_port
    from api.doctor_separation import check_separation
    from api.doctor_weights import check_weight_cache

    yield check_python
    yield partial(check_packages, REPOSITORY / "requirements.lock")
    yield check_torch
    yield partial(check_settings, os.environ)
    yield partial(check_ray_environment, os.environ)
    yield partial(check_config, config)
    yield partial(check_separation, config)
    yield partial(check_port, host, port)
    yield from _store_checks()
    yield partial(check_disk, REPOSITORY)
    yield check_memory
    yield check_shared_memory
    yield check_cpu
    yield check_cpu_kernel
    yield check_weight_cache
    yield check_gpu


def _store_checks() -> Iterator[Callable[[], Finding]]:
    """Of what lies in a module of its own, since it needs packages that may be missing here."""
    try:
        from api import doctor_stores
    except ImportError as error:
        lacking = Finding("stores", Status.FAIL, f"cannot be checked: {error}", "make install")
        yield lambda: lacking
        return
    yield doctor_stores.check_database
    yield doctor_stores.check_cache
    yield doctor_stores.check_storage


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    found = f"{version[0]}.{version[1]} ({platform.python_implementation()}, {sys.prefix})"
    if version == (3, 11):
        return Finding("Python", Status.OK, found)
    return Finding("Python", Status.FAIL, found, "use Python 3.11: make install PYTHON=/path/to/python3.11")


def check_packages(lock: Path) -> Finding:
    """Every package of the lock file is installed in exactly its version."""
    try:
        pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text(), flags=re.MULTILINE)
    except OSError as error:
        return Finding(
            "packages", Status.FAIL, f"cannot read {lock.name}: {error.strerror}", "run from a whole checkout"
        )
    wrong = [f"{name} is {found or 'missing'}, not {pin}" for name, pin in pins if (found := _version(name)) != pin]
    if not wrong:
        return Finding("packages", Status.OK, f"all {len(pins)} as in {lock.name}")
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return Finding("packages", Status.FAIL, "; ".join(wrong[:3]) + more, "rm -f .venv/.installed && make install")


def check_torch() -> Finding:
    found = _version("torch")
    if found is None:
        return Finding("torch", Status.FAIL, "missing", f"pip install torch=={TORCH_VERSION}, or make install")
    if found.partition("+")[0] != TORCH_VERSION:
        return Finding("torch", Status.FAIL, found, f"pip install torch=={TORCH_VERSION}: it is tried with no other")
    if found.endswith("+cpu") and _has_gpu():
        mend = "install the CUDA build of the same version to use the GPU"
        return Finding("torch", Status.WARN, f"{found}: a CPU build beside an NVIDIA GPU", mend)
    return Finding("torch", Status.OK, found)


def check_settings(environment: Mapping[str, str]) -> Finding:
    """Every TUTTI_* variable is one that the API knows, with a value it takes."""
    given = sorted(name for name in environment if name.upper().startswith("TUTTI_"))
    try:
        from api.settings import Settings

        Settings()
    except ImportError as error:
        return Finding("settings", Status.FAIL, f"cannot be checked: {error}", "make install")
    except ValueError as error:  # pydantic's ValidationError is one
        return Finding("settings", Status.FAIL, _one_line(error), "unset the variable or mend its value")
    return Finding("settings", Status.OK, ", ".join(given) if given else "no TUTTI_* variable set: defaults")


def check_ray_environment(environment: Mapping[str, str]) -> Finding:
    """Ray reads the environment of every process it starts; some of its switches undo what Tutti relies on."""
    throughput = environment.get("RAY_SERVE_THROUGHPUT_OPTIMIZED") == "1"
    if throughput and environment.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
        mend = "set RAY_SERVE_ENABLE_HA_PROXY=1 too, or neither: alone it moves every HTTP proxy to the head node"
        return Finding("Ray", Status.FAIL, "RAY_SERVE_THROUGHPUT_OPTIMIZED=1 alone", mend)
    if environment.get("RAY_AUTH_MODE") == "disabled":
        mend = "unset RAY_AUTH_MODE: without it every process that reaches Ray's ports may run code here"
        return Finding("Ray", Status.WARN, "RAY_AUTH_MODE=disabled", mend)
    if environment.get("RAY_ADDRESS"):
        mend = "unset RAY_ADDRESS, or give serve_config.yaml to that cluster with serve deploy"
        return Finding("Ray", Status.WARN, "RAY_ADDRESS is set; tutti serve starts a Ray of its own", mend)
    found = ", ".join(sorted(name for name in environment if name.startswith("RAY_")))
    return Finding("Ray", Status.OK, found or "no RAY_* variable set: Tutti's defaults")


def check_config(config: Path) -> Finding:
    """The Serve config is accepted, and the checkpoint of every model that is on can be read."""
    try:
        from deployments.serve_config import load_config

        loaded = load_config(config)
    except ImportError as error:
        return Finding("models", Status.FAIL, f"cannot be checked: {error}", "make install")
    except TuttiError as error:
        return Finding("models", Status.FAIL, _one_line(error), f"mend {config.name} or the checkpoint it names")
    models = {name: entry for app in loaded.applications for name, entry in app.args.get("models", {}).items()}
    on = [name for name, entry in models.items() if entry.get("enabled", True)]
    off = [name for name in models if name not in on]
    return Finding("models", Status.OK, f"on: {', '.join(on)}" + (f"; off: {', '.join(off)}" if off else ""))


def check_disk(folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    found = f"{usage.free / GIB:.1f} GiB free of {usage.total / GIB:.1f}"
    if usage.free < MIN_DISK_BYTES:
        return Finding(
            "disk", Status.FAIL, found, f"free at least {MIN_DISK_BYTES // GIB} GiB: Ray stops on a full disk"
        )
    return Finding("disk", Status.OK, found)


def check_memory() -> Finding:
    meminfo = Path("/proc/meminfo")
    match = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    if match is None:
        return Finding("memory", Status.WARN, "unknown on this system", f"have {MIN_MEMORY_BYTES // GIB} GiB free")
    available = int(match.group(1)) * 1024
    found = f"{available / GIB:.1f} GiB available"
    if available < MIN_MEMORY_BYTES:
        mend = f"free at least {MIN_MEMORY_BYTES // GIB} GiB: Ray alone takes three quarters of one"
        return Finding("memory", Status.FAIL, found, mend)
    return Finding("memory", Status.OK, found)


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Finding:  # noqa: S108 - the kernel's own name
    if not folder.is_dir():
        return Finding("shared memory", Status.WARN, f"no {folder}", "Ray will use slower files below /tmp")
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.2f} GiB free in {folder}"
    if free < MIN_SHM_BYTES:
        return Finding("shared memory", Status.FAIL, found, "in a container: --shm-size=1g (compose.yaml does it)")
    return Finding("shared memory", Status.OK, found)


def check_cpu() -> Finding:
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(re.findall(r"\w+", cpuinfo.read_text())) if cpuinfo.exists() else set()
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd") if flag in flags]
    found = f"{os.cpu_count()} cores, {platform.machine()}, {' '.join(known) or 'no vector extension known'}"
    if known:
        return Finding("CPU", Status.OK, found)
    return Finding("CPU", Status.WARN, found, "expect slow music: the tiny model is measured with AVX2")


def check_gpu() -> Finding:
    if not _has_gpu():
        return Finding("GPU", Status.OK, "none: the tiny model runs on the CPU")
    return Finding("GPU", Status.OK, "NVIDIA driver found; give models a share of it in serve_config.yaml (num_gpus)")


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
