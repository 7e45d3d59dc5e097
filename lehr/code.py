"""The code version of a stage: a hash of every source file it can reach by imports, and of nothing else.

Editing the report does not repeat the training; editing the optimiser does. Function bodies count, unlike in Flyte's own
cache (reference: flytekit keys on names and inputs only).
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parent
# Words for people and for spectators: they change no result.
_SILENT = frozenset({"lehr.errors", "lehr.ports", "lehr.code", "lehr.metrics"})


def _source(module: str) -> Path | None:
    path = _ROOT.parent.joinpath(*module.split("."))
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    package = path / "__init__.py"
    return package if package.is_file() else None


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of `lehr` that `module` imports, by its text."""
    source = _source(module)
    if source is None:
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(m for m in found if m.split(".")[0] == "lehr" and _source(m) is not None)


def reachable(module: str) -> list[str]:
    """`module` and all modules of `lehr` that it imports, directly or not, sorted."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current not in seen and current not in _SILENT:
            seen.add(current)
            waiting.extend(_imports(current))
    return sorted(seen)


@cache
def code_version(module: str) -> str:
    """Hex SHA-256 over the reachable sources, each by name and content."""
    digest = hashlib.sha256()
    for name in reachable(module):
        source = _source(name)
        if source is not None:
            digest.update(name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()
