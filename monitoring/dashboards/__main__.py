"""Writes the boards' files for Grafana and docs/metrics.md: `python -m lehr.monitoring.dashboards` (make dashboards).

With --check nothing is written, and the exit code is 1 if a file would change.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lehr.monitoring.dashboards.boards import text
from lehr.monitoring.panels.boards import BOARDS
from lehr.monitoring.panels.reference import page

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("helm/lehr/files/dashboards")


def files() -> dict[Path, str]:
    """Every file that is written, by its path in the repository, with what belongs there."""
    boards = {FOLDER / f"{board.uid}.json": text(board) for board in BOARDS}
    return {**boards, Path("docs/metrics.md"): page(BOARDS)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the boards' files for Grafana and docs/metrics.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file would change")
    check = parser.parse_args(arguments).check
    wanted = files()
    surplus = {path.relative_to(ROOT) for path in (ROOT / FOLDER).glob("*.json")} - wanted.keys()
    changed = [path for path, made in wanted.items() if not _is(ROOT / path, made)]
    for path in (*changed, *surplus):
        print(f"{path}: {'would change' if check else 'removed' if path in surplus else 'written'}")
        if not check and path in surplus:
            (ROOT / path).unlink()
        elif not check:
            (ROOT / path).write_text(wanted[path], encoding="utf-8")
    return 1 if check and (changed or surplus) else 0


def _is(path: Path, made: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == made


if __name__ == "__main__":
    sys.exit(main())
