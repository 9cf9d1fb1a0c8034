"""``python -m dashboards.builder [--check] [--out FOLDER]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dashboards.builder.files import DASHBOARDS_DIR, stale, write_all


def main() -> int:
    """Exit code 1: ``--check`` found files that are not current."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.builder", description=__doc__)
    parser.add_argument("--out", type=Path, default=DASHBOARDS_DIR, help="folder of the JSON files")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    options = parser.parse_args()
    changed = stale(options.out) if options.check else write_all(options.out)
    for path in changed:
        sys.stderr.write(f"{'not current' if options.check else 'written'}: {path}\n")
    if options.check and changed:
        sys.stderr.write("Run: python -m dashboards.builder\n")
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
