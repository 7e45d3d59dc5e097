"""The code version of a stage: a hash over the syntax trees of the code that its work function can reach by imports.

So a change of the report does not repeat the training, and a change of the optimiser does. Comments, docstrings and layout do
not count. Of the file that declares a stage only the work function and what it uses there counts, because how a stage is
planned and displayed does not change its result. Other files count as a whole.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lehr.artifacts.version_cache import kept

_ROOT = Path(__file__).resolve().parents[1]
# Messages, interfaces, and the machinery that runs stages: they do not change a result.
_SILENT = (
    "lehr.runtime.errors", "lehr.runtime.ports", "lehr.runtime.objects", "lehr.artifacts.fingerprint",
    "lehr.artifacts.version_cache", "lehr.runtime.metrics", "lehr.pipeline",
)  # fmt: skip
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def code_version(work: Callable[..., Any]) -> str:
    """Hex SHA-256 over the syntax trees that `work`, a module-level function, can reach, each with its module's name."""
    module, function = work.__module__, work.__qualname__
    if module.split(".")[0] != "lehr":  # a plug-in: what it reaches is not Lehr's alone
        return _version(module, function)
    return kept(f"{module}.{function}", lambda: _version(module, function))


@cache
def _version(module: str, function: str) -> str:
    digest = hashlib.sha256(f"{module}.{function}".encode())
    digest.update("".join(_text(node) for node in _own(module, function)).encode())
    for name in _reachable(module, function):
        digest.update(f"\0{name}\0{_tree_digest(name)}".encode())
    return digest.hexdigest()


def reachable(work: Callable[..., Any]) -> list[str]:
    """The modules that `work` reaches beyond its own file, sorted."""
    return list(_reachable(work.__module__, work.__qualname__))


@cache
def _reachable(module: str, function: str) -> tuple[str, ...]:
    package = module.split(".")[0]
    seen: set[str] = set()
    waiting = sorted({name for node in _own(module, function) for name in _imported(node, package)})
    while waiting:
        current = waiting.pop()
        if current not in seen and current != module and not _silent(current):
            seen.add(current)
            waiting.extend(_imports(current, package))
    return tuple(sorted(seen))


def _silent(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _SILENT)


@cache
def _source(module: str) -> Path | None:
    path = _ROOT.parent.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    if module.split(".")[0] == "lehr":
        return None
    loaded = sys.modules.get(module)  # a module outside this package, such as a user's plug-in
    file_name = getattr(loaded, "__file__", None)
    if file_name is None:
        try:
            found = find_spec(module)
        except (ImportError, ValueError):
            return None
        file_name = found.origin if found else None
    return Path(file_name) if file_name and file_name.endswith(".py") else None


@cache
def _tree(module: str) -> ast.Module:
    source = _source(module)
    return ast.parse(source.read_text(encoding="utf-8") if source else "")


@cache
def _imports(module: str, package: str) -> frozenset[str]:
    """Modules of `lehr` and of the user's own `package` that `module` imports anywhere in its text, in functions too."""
    return frozenset(_imported(_tree(module), package))


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    for node in _statements(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.split(".")[0] in ("lehr", package) and _source(name) is not None)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """`tree` and the statements in it, at any depth. Expressions, which hold no statement, are most of a tree: walking
    through them too took a second at every start."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            inside = getattr(node, name, None)
            if isinstance(inside, list):  # a lambda's body is an expression
                waiting.extend(inside)


@cache
def _own(module: str, function: str) -> tuple[ast.stmt, ...]:
    """The statements of `module` that define `function` and the names that it uses there, in their order."""
    body, wanted, found = _tree(module).body, {function.split(".")[0]}, dict[int, ast.stmt]()
    while True:
        # A fixed point: each statement found may use further names of this module.
        fresh = {i: node for i, node in enumerate(body) if i not in found and wanted & _bound(node)}
        if not fresh:
            return tuple(_narrowed(found[i], wanted) for i in sorted(found))
        for node in fresh.values():
            wanted |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        found |= fresh


def _bound(node: ast.stmt) -> set[str]:
    """The names that a module-level statement defines."""
    if isinstance(node, _Definition):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    targets: Iterable[ast.AST] = getattr(node, "targets", [getattr(node, "target", None)])
    return {inner.id for target in targets if target for inner in ast.walk(target) if isinstance(inner, ast.Name)}


def _narrowed(node: ast.stmt, wanted: set[str]) -> ast.stmt:
    """`node`; an import without the names that are not used."""
    if isinstance(node, ast.ImportFrom):
        names = [alias for alias in node.names if (alias.asname or alias.name) in wanted]
        return ast.ImportFrom(module=node.module, names=names, level=node.level)
    return node


@cache
def _tree_digest(module: str) -> str:
    return hashlib.sha256(_text(_tree(module)).encode()).hexdigest()


def _text(tree: Any) -> str:
    """A tree as text that is equal under every Python version: without empty fields, which some versions omit, and without
    docstrings."""
    out: list[str] = []
    _write(tree, out.append)
    return "".join(out)


def _write(node: Any, put: Callable[[str], None]) -> None:
    if isinstance(node, list):
        for item in node:
            _write(item, put)
            put(",")
        return
    if not isinstance(node, ast.AST):
        put(repr(node))
        return
    put(f"({type(node).__name__}")
    for name in node._fields:
        value = getattr(node, name, None)
        if value is None or value == [] or name in ("ctx", "type_comment", "kind"):
            continue
        if name == "body" and isinstance(node, ast.Module | _Definition) and _is_text(value[0]):
            value = value[1:]
        if isinstance(node, ast.JoinedStr):  # Python 3.12 adds empty texts in format specifications
            value = [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
        put(f" {name}=")
        _write(value, put)
    put(")")


def _is_text(node: ast.stmt) -> bool:
    """Whether the first statement of a body is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
