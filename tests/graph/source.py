"""The repository as the graph tests see it: its files, and the modules that each of them imports."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UPPER = ("tasks", "workflows", "cli", "infra", "monitoring")  # rooms beside lehr/, imported as `lehr.cli` and so on
ROOMS = ("lehr", *UPPER)


@cache
def committed_files() -> tuple[Path, ...]:
    """Every file that is committed or would be. Outside a git checkout: every file that is not hidden or a run's."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listing.returncode == 0:
        names = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        names = [
            p for p in ROOT.rglob("*") if not any(part.startswith(".") or part == "runs" for part in p.parts[len(ROOT.parts) :])
        ]
    return tuple(sorted(p for p in names if p.is_file()))


@cache
def sources() -> dict[Path, ast.Module]:
    """The syntax tree of every Python file, tests included."""
    return {p: ast.parse(p.read_text(encoding="utf-8"), str(p)) for p in committed_files() if p.suffix == ".py"}


def module_name(path: Path) -> str:
    """The name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("lehr", *parts) if parts[0] in UPPER else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[tuple[str, int]]:
    """(dotted module, line) of every import in a file, those inside functions too, relative ones resolved.

    `from a import b` yields `a.b`: a name and a submodule cannot be told apart here, and the longer name serves both.
    """
    found: list[tuple[str, int]] = []
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(sources()[path]):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
                if node.level
                else node.module
            )
            found += [(f"{base}.{alias.name}", node.lineno) for alias in node.names]
    return found


def by_place(name: str) -> str:
    """A module's name as its place has it: `cli.main` for `lehr.cli.main`. Of the library's own nothing is taken away."""
    package, _, rest = name.partition(".")
    return rest if package == "lehr" and rest.split(".")[0] in UPPER else name


def in_rooms(*rooms: str) -> list[Path]:
    return [p for p in sources() if p.relative_to(ROOT).parts[0] in rooms]


def shown(path: Path, line: int = 0) -> str:
    return f"{path.relative_to(ROOT)}:{line}" if line else str(path.relative_to(ROOT))
