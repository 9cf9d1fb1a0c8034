"""``python -m models.kernels.cpu``: compile the kernel if need be, and say which one runs here, or why none does."""

from __future__ import annotations

import sys

from models.kernels.cpu.build import KernelUnavailableError
from models.kernels.cpu.library import kernel


def main() -> int:
    """Print one line; the exit code is 1 where the kernel can not run."""
    try:
        sys.stdout.write(f"{kernel().path}\n")
    except KernelUnavailableError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
