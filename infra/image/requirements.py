"""What an image installs: the package's own requirements with some of its extras, one a line.

python infra/image/requirements.py all

Runs in the image's build stage, before anything is installed: nothing but the standard library.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def requirements(project: dict[str, object], extras: list[str]) -> list[str]:
    """Those of `[project]` in a pyproject.toml, then those of each extra; an extra may name others (`lehr[flyte]`).
    Raises SystemExit for an extra that there is not."""
    optional: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    found: list[str] = list(project["dependencies"])  # type: ignore[call-overload]
    for extra in filter(None, extras):
        if extra not in optional:
            sys.exit(f"error: there is no extra {extra!r}. Extras are: {', '.join(optional)}.")
        for line in optional[extra]:
            inner = re.fullmatch(rf"{project['name']}\[([\w,-]+)\]", line)
            found += requirements({**project, "dependencies": []}, inner[1].split(",")) if inner else [line]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    table = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    print("\n".join(requirements(table, sys.argv[1].split(",") if len(sys.argv) > 1 else [])))
