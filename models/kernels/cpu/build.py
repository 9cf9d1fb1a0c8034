"""Compiles the CPU kernel at its first use and keeps it: seconds once, for this processor, this compiler, this source.

No binary is shipped, because the gain lies in the processor's own instructions. Without a C++ compiler torch does the
step. ``TUTTI_CPU_KERNEL`` chooses: "native" (the default), "portable" (no instructions written by hand) or "off".
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).parent
UNITS = ("step.cpp", "codec.cpp")
COMPILERS = ("g++", "clang++", "c++")
FLAGS = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-Wno-psabi"]
FLAGS += ["-fPIC", "-shared", "-fvisibility=hidden"]
VARIANTS: dict[str, list[str]] = {"native": [], "portable": ["-DTUTTI_PORTABLE"]}
_PATIENCE_S = 300


class KernelUnavailableError(Exception):
    """The kernel can not run here; the message says why and what to do."""


def cache_folder() -> Path:
    """Where compiled kernels are kept: ``TUTTI_KERNEL_CACHE``, or the user's cache folder."""
    named = os.environ.get("TUTTI_KERNEL_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tutti" / "kernels"


def chosen_variant() -> str:
    """What ``TUTTI_CPU_KERNEL`` says.

    Raises:
        KernelUnavailableError: it says "off", or nothing that is known.
    """
    chosen = os.environ.get("TUTTI_CPU_KERNEL", "native")
    if chosen == "off":
        raise KernelUnavailableError("the CPU kernel is switched off (TUTTI_CPU_KERNEL=off)")
    if chosen not in VARIANTS:
        raise KernelUnavailableError(f"TUTTI_CPU_KERNEL must be native, portable or off, got {chosen!r}")
    return chosen


def build(variant: str = "native") -> Path:
    """The compiled kernel, made now if there is none for this processor, compiler and source.

    Raises:
        KernelUnavailableError: there is no compiler, or it failed.
    """
    compiler, flags = _compiler(), FLAGS + VARIANTS[variant]
    target = cache_folder() / f"step-{_fingerprint(compiler, flags)}.so"
    if not target.is_file():
        _compile([compiler, *flags], target)
    return target


def _compiler() -> str:
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else COMPILERS:
        found = shutil.which(name)
        if found:
            return found
    names = wanted or ", ".join(COMPILERS)
    raise KernelUnavailableError(f"no C++ compiler ({names}): install g++ for the fast CPU step")


def _fingerprint(compiler: str, flags: list[str]) -> str:
    """Of everything the result depends on; torch's version because both share one OpenMP runtime."""
    version = _run([compiler, "--version"]).stdout
    parts = [version, " ".join(flags), torch.__version__, _processor()]
    parts += [path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.[hc]*")) if path.suffix != ".py"]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What ``-march=native`` looks at: a cache folder may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return torch.backends.cpu.get_cpu_capability()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def _compile(command: list[str], target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / "step.so"
            units = [str(SOURCES / unit) for unit in UNITS]
            done = _run([*command, *units, "-o", str(made), *_openmp()])
            if done.returncode:
                raise KernelUnavailableError(f"{command[0]} could not compile the CPU kernel:\n{done.stderr[-2000:]}")
            made.replace(target)  # in one step: others may be compiling the same
    except OSError as error:
        hint = "set TUTTI_KERNEL_CACHE to a folder that can be written"
        raise KernelUnavailableError(f"the CPU kernel can not be kept in {target.parent} ({error}): {hint}") from error
    logger.info("compiled the CPU kernel into %s", target)


def _openmp() -> list[str]:
    """torch's own OpenMP runtime where it brings one: two runtimes would fight over the cores."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    return [str(found[0]), f"-Wl,-rpath,{found[0].parent}"] if found else []


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603 the compiler
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelUnavailableError(f"{command[0]} does not run: {error}") from error
