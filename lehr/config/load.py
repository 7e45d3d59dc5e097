"""Read a recipe file with its ancestors, apply overrides, validate, and explain the first error in one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from lehr.config.base_model import Fetch, resolve_base
from lehr.config.merge import Origin, merge
from lehr.config.posttraining import PLUGIN
from lehr.config.recipe import Recipe
from lehr.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but `3e-3` is a number, and a key may not stand twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9_]+(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf)|\.(?:nan|NaN))$"
    ),
    list("-+0123456789."),
)


def _mapping_without_twins(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: list[object] = []
    for key, _ in node.value:
        if key.value in seen:
            line = key.start_mark.line + 1
            raise UserError(f"key {key.value!r} stands twice", where=f"{loader.name}:{line}", remedy="keep one of the two")
        seen.append(key.value)
    return {str(k): v for k, v in yaml.SafeLoader.construct_mapping(loader, node, deep=True).items()}


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_twins)
# The float pattern above also matches plain integers; PyYAML tries resolvers in order, and int is registered first.


def _parse(text: str, where: str) -> Any:
    try:
        loader = _Loader(text)  # refuses control characters here
        loader.name = where
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", error)
        raise UserError(f"not YAML: {problem}", where=f"{where}{line}", remedy="mend the syntax") from None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        remedy = "give the path of a recipe, such as recipes/tiny/olmo2.yaml"
        raise UserError("no such recipe file", where=path, remedy=remedy) from None
    except PermissionError:
        raise UserError("not readable", where=path, remedy="change the file's permissions") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise UserError("not a text file", where=path, remedy="give a recipe in YAML, UTF-8") from None
    value = _parse(text, str(path))
    if not isinstance(value, dict):
        raise UserError("a recipe is a mapping of keys", where=path, remedy="see recipes/tiny/olmo2.yaml")
    return value


def _load_chain(path: Path, into: dict[str, Any], origin: Origin, seen: tuple[Path, ...] = ()) -> None:
    path = path.resolve()
    if path in seen:
        raise UserError("this recipe inherits itself", where=path, remedy="break the circle of `inherits`")
    raw = _read_file(path)
    parents = raw.pop("inherits", [])
    for parent in parents if isinstance(parents, list) else [parents]:  # of several the later one wins
        if not isinstance(parent, str):
            raise UserError(f"inherits: {parent!r} is not a path", where=path, remedy="name a file, or a list of files")
        if not (path.parent / parent).is_file():
            raise UserError(f"inherits: there is no file {parent!r}", where=path, remedy="mend the path, relative to this file")
        _load_chain(path.parent / parent, into, origin, (*seen, path))
    merge(into, raw, _shown(path), origin, path.parent)


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
    for part in parts[:-1]:
        if parts[0] == "posttraining" and node is values.get("posttraining") and part not in node:
            known = ", ".join(node) or "none"
            raise UserError(f"--set {key}: there is no step {part!r}; steps are: {known}", remedy="name one of them")
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise UserError(f"--set {key}: {part!r} holds a value, not a section", remedy="name a key of the recipe")
        node = child
    merge(node, {parts[-1]: _parse(text, f"--set {key}")}, "--set", origin, Path.cwd(), ".".join([*parts[:-1], ""]))


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), machines: str | Path | None = None, fetch: Fetch = Path
) -> Recipe:
    """The recipe at `path` with everything it inherits, then `overrides` like `stage1.tokens=200000`.

    `machines` is a file with sections `site` and `hardware` that replace the recipe's. Paths are made absolute, relative to
    the file that names them. Of a `base`, the architecture and what its record says of its training are read; `fetch` makes a
    local folder of its address. Raises UserError: one line that names the file, the key, the value and the remedy.
    """
    values: dict[str, Any] = {}
    origin: Origin = {}
    _load_chain(Path(path), values, origin)
    if machines is not None:
        for section in ("site", "hardware"):  # they begin anew: nothing of one machine holds for another
            values.pop(section, None)
        _load_chain(Path(machines), values, origin)
    for assignment in overrides:
        _apply_set(values, assignment, origin)
    shown = _shown(Path(path).resolve())
    resolve_base(values, fetch, origin, shown)
    steps = values.get("posttraining")
    listed = {"posttraining": list(steps.values())} if isinstance(steps, dict) else {}
    try:
        return Recipe.model_validate({**values, **listed})
    except ValidationError as error:
        raise explain(error, Recipe, values, origin, shown) from None


def recipe_yaml(recipe: Recipe) -> str:
    """The fully resolved recipe as YAML: what a run pins."""
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=110)
    return text


def _value_at(values: Any, loc: Sequence[str | int]) -> Any:
    for part in loc:
        in_list = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if not in_list and not (isinstance(values, dict) and part in values):
            return None
        values = values[part]
    return values


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Models that an annotation such as dict[str, A | B] leads to."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Known keys beside an unknown one: walk the models along `loc`, without its last part."""
    models = [model]
    for part in loc[:-1]:
        fields = [m.model_fields[str(part)] for m in models if str(part) in m.model_fields]
        if fields:  # else it is a name in a table, an index, or the kind of a source: the models stay
            models = [inner for field in fields for inner in _models_in(field.annotation)]
    return sorted({name for m in models for name in m.model_fields})


def _keys_of(loc: Sequence[str | int], values: Any) -> list[str | int]:
    """`loc` as the recipe writes it: without the `kind` that pydantic puts after the key of a section with kinds, and with the
    name of a step for its number."""
    keys: list[str | int] = []
    for part in (part for part in loc if part != "[key]"):  # pydantic's mark of a table's key that is no name
        here = _value_at(values, keys)
        if keys == ["posttraining"] and isinstance(here, dict) and isinstance(part, int):
            keys.append(list(here)[part])
        elif not (isinstance(here, dict) and part not in here and (here.get("kind") == part or part == PLUGIN)):
            keys.append(part)
    return keys


def _origin_of(key: str, origin: Origin) -> str:
    """The file that wrote `key`, a section around it, or a key inside it; empty if none did."""
    parts = key.split(".")
    for n in range(len(parts), 0, -1):
        if (around := ".".join(parts[:n])) in origin:
            return origin[around]
    return next((where for inner, where in origin.items() if inner.startswith(f"{key}.")), "")


def _given(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_EXPECTED = {
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "string_type": "expected a text",
    "list_type": "expected a list",
    "dict_type": "expected a section of keys",
    "model_type": "expected a section of keys",
}


def explain(error: ValidationError, model: type[BaseModel], values: Any, origin: Origin, shown: str) -> UserError:
    """The first error of a validation as one UserError. Unknown keys come first: they cause the missing ones."""
    details = error.errors(include_url=False)
    first = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    loc = _keys_of(first["loc"], values)
    where = _origin_of(".".join(map(str, loc)), origin) or shown
    key = ".".join(text if len(text := str(part)) <= 40 else f"{text[:40]}..." for part in loc)
    value = _value_at(values, loc)
    given = f" (given: {_given(value)})" if loc and not isinstance(value, dict | list) and first["type"] != "missing" else ""
    kind = first["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), _fields_at(model, loc), n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "remove it, or see docs/recipes.md for the known keys"
        return UserError(f"{key}: unknown key{given}", where=where, remedy=remedy)
    if kind == "union_tag_invalid":
        known = str(first["ctx"]["expected_tags"]).replace(f", '{PLUGIN}'", "")
        given = str(first["ctx"]["tag"])
        return UserError(f"{key}: there is no kind {given!r}; kinds are: {known}", where=where, remedy="name one of them")
    if kind == "missing":
        return UserError(f"{key}: this key is missing", where=where, remedy="add it, or inherit a recipe that has it")
    if kind == "value_error":
        what, _, remedy = str(first["ctx"]["error"]).partition("; ")
        full = f"{key}: {what}" if key else what
        return UserError(full, where=_where_named(key, what, origin) or where, remedy=remedy)
    wanted = _EXPECTED.get(kind, first["msg"].replace("Input should be", "expected"))
    return UserError(f"{key}: {wanted}{given}", where=where, remedy="correct the value")


def _where_named(section: str, what: str, origin: Origin) -> str:
    """The file that wrote the key with which a message about `section` begins, if it begins with one."""
    key = re.split(r"[:=]", what, maxsplit=1)[0]
    return origin.get(f"{section}.{key}" if section else key, "")
