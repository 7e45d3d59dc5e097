"""Reading a recipe file with its ancestors, applying overrides, and validating the result."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lehr.config.base_model import Fetch, resolve_base
from lehr.config.chat import resolve_template
from lehr.config.merge import Origin, merge
from lehr.config.mistakes import blamed, explain, given
from lehr.config.recipe import Recipe
from lehr.config.shipped import found
from lehr.runtime.errors import UserError
from lehr.runtime.yaml_file import MOST_DEPTH, parse, read_mapping

SET = "--set"


MOST_FILES = 100  # that one recipe inherits from, each counted as often as it is named: bounds the work for hostile files
_REMEDY = "give the path of a recipe, or a name such as tiny/olmo2 (`lehr recipes` lists them)"


@dataclass
class _Chain:
    """The ancestors of a recipe read so far: each file once, and how many were merged."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: Origin = field(default_factory=dict)
    files: dict[Path, dict[str, Any]] = field(default_factory=dict)
    merged: int = 0

    def read(self, path: Path) -> dict[str, Any]:
        if path not in self.files:
            self.files[path] = read_mapping(path, "recipe", _REMEDY)
        return self.files[path]


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # circular links, or NUL: reading the file reports it
        return path.absolute()


def _load_chain(path: Path, chain: _Chain, above: tuple[Path, ...] = ()) -> None:
    path = _resolved(path)
    if path in above:
        circle = " -> ".join(p.name for p in [*above[above.index(path) :], path])
        raise UserError(f"this recipe inherits itself ({circle})", where=path, remedy="break the circle of `inherits`")
    chain.merged += 1
    if chain.merged > MOST_FILES:
        what = f"inherits: more than {MOST_FILES} files, some of them repeatedly"
        raise UserError(what, where=above[0], remedy="name each ancestor once")
    raw = chain.read(path)
    parents = raw.get("inherits", [])
    for parent in parents if isinstance(parents, list) else [parents]:  # later ones override earlier ones
        if not isinstance(parent, str):
            raise UserError(f"inherits: {given(parent)} is not a path", where=path, remedy="name a file, or a list of files")
        file = found(parent, path.parent)
        if not os.path.isfile(file):
            what = f"inherits: there is no file {given(parent)}"
            remedy = "correct the path, relative to this file, or name a shipped recipe, such as tiny/olmo2"
            raise UserError(what, where=path, remedy=remedy)
        _load_chain(file, chain, (*above, path))
    own = {key: value for key, value in raw.items() if key != "inherits"}
    merge(chain.values, own, _shown(path), chain.origin, path.parent)


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _apply_set(values: dict[str, Any], assignment: str, origin: Origin) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {assignment!r} is not key=value", remedy="write it like --set stage1.tokens=200000")
    node = values
    parts = key.strip().split(".")
    if len(parts) > MOST_DEPTH:
        raise UserError(f"--set: {key[:40]}... is not a key", remedy="name a key of the recipe")
    for part in parts[:-1]:
        if parts[0] == "posttraining" and node is values.get("posttraining") and part not in node:
            known = ", ".join(node) or "none"
            raise UserError(f"--set {key}: there is no step {part!r}; steps are: {known}", remedy="name one of them")
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise UserError(f"--set {key}: {part!r} holds a value, not a section", remedy="name a key of the recipe")
        node = child
    merge(node, {parts[-1]: parse(text, f"--set {key}")}, SET, origin, Path.cwd(), ".".join([*parts[:-1], ""]))


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), machines: str | Path | None = None, fetch: Fetch = Path
) -> Recipe:
    """The recipe at `path` with everything that it inherits, then `overrides` like `stage1.tokens=200000`. Both paths may be
    names of shipped files.

    `machines` is a file with sections `site` and `hardware` that replace the recipe's. Paths are made absolute, relative to the
    file in which they are written. For a `base`, its architecture and the record of its training are read; `fetch` makes a
    local folder of its address. Raises UserError: one line with the file, the key, the value and the remedy, and in its `more`
    a line for each further mistake.
    """
    path, chain = found(path), _Chain()
    _load_chain(path, chain)
    if machines is not None:
        for section in ("site", "hardware"):  # replaced, not merged: no value of one machine holds for another
            chain.values.pop(section, None)
        _load_chain(found(machines), chain)
    # What the files say by themselves, for `blamed`. A copy: --set and resolve_base change values in place.
    before = (copy.deepcopy(chain.values), dict(chain.origin))
    for assignment in overrides:
        _apply_set(chain.values, assignment, chain.origin)
    shown = _shown(_resolved(path))
    try:
        return _validated(chain.values, chain.origin, fetch, shown)
    except UserError as error:
        raise blamed(error, lambda: _validated(*before, fetch, shown), SET) if overrides else error from None


def inherited(path: Path) -> list[Path]:
    """The file of a recipe, then those it inherits from, each once. Raises UserError if one is missing or not a recipe."""
    chain = _Chain()
    _load_chain(path, chain)
    return list(chain.files)


def _validated(values: dict[str, Any], origin: Origin, fetch: Fetch, shown: str) -> Recipe:
    resolve_base(values, fetch, origin, shown)
    resolve_template(values)
    if isinstance(data := values.get("data"), dict) and set(data) <= {"filters"}:
        values = {**values, "data": None}  # filters that every recipe inherits are no data
    steps = values.get("posttraining")
    # A table by name, for merging; the recipe has a list, in the table's order.
    listed = {"posttraining": list(steps.values())} if isinstance(steps, dict) else {}
    try:
        return Recipe.model_validate({**values, **listed})
    except ValidationError as error:
        raise explain(error, Recipe, values, origin, shown) from None


def recipe_yaml(recipe: Recipe) -> str:
    """The fully resolved recipe as YAML, which a run stores."""
    # Not sorted: the order of a table of shares is part of a fingerprint.
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=110)
    return text
