"""What a benchmark takes from Lehr is there: most of them run on idle machines only, and mypy does not look into them."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py"))


def _absent(module: str, name: str) -> bool:
    """Whether `name` is neither in the module nor a module below it."""
    if hasattr(importlib.import_module(module), name):
        return False
    return importlib.util.find_spec(f"{module}.{name}") is None


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_names_that_a_benchmark_imports_are_there(path: Path) -> None:
    """Late imports too. A rename left one behind, and the benchmark of checkpoints did not start."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    taken = [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("lehr", "benchmarks")
        for alias in node.names
    ]
    assert [f"{module}.{name}" for module, name in taken if _absent(module, name)] == []
