"""Explaining the mistakes in a recipe to its author: a line for each one, with file, key, value and remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lehr.config.merge import Origin
from lehr.config.posttraining import PLUGIN
from lehr.runtime.errors import UserError

MOST_LINES = 20  # mistakes shown at once


class Mistakes(ValueError):
    """Several mistakes in one model, each `key: what is wrong; what to do`."""

    def __init__(self, said: Sequence[str]) -> None:
        self.said = said
        super().__init__(said[0])


def _value_at(values: Any, loc: Sequence[str | int]) -> Any:
    for part in loc:
        in_list = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if not in_list and not (isinstance(values, dict) and part in values):
            return None
        values = values[part]
    return values


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation such as dict[str, A | B]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _models_at(model: type[BaseModel], loc: Sequence[str | int], values: Any) -> list[type[BaseModel]]:
    """The models that the section at `loc` can be: follows them along `loc`, and takes those of the section's own `kind`."""
    models = [model]
    for part in loc:
        fields = [m.model_fields[str(part)] for m in models if str(part) in m.model_fields]
        if fields:  # otherwise a name in a table, an index, or the kind of a source: the models stay the same
            models = [inner for field in fields for inner in _models_in(field.annotation)]
    section = _value_at(values, loc)
    kind = section.get("kind", loc[-1] if loc else None) if isinstance(section, dict) else None
    return [m for m in models if "kind" in m.model_fields and kind in get_args(m.model_fields["kind"].annotation)] or models


def _meant(model: type[BaseModel], loc: Sequence[str | int], values: Any) -> list[str]:
    """The key that was probably meant by the unknown one at `loc`, or none: the same key one section further in, if one section
    alone has it, or one that is written alike."""
    models, key = _models_at(model, loc[:-1], values), str(loc[-1])
    fields = [(name, field) for m in models for name, field in m.model_fields.items()]
    inside = {f"{name}.{key}" for name, f in fields for inner in _models_in(f.annotation) if key in inner.model_fields}
    return list(inside) if len(inside) == 1 else difflib.get_close_matches(key, sorted({name for name, _ in fields}), n=1)


def _keys_of(loc: Sequence[str | int], values: Any) -> list[str | int]:
    """`loc` as the recipe writes it: without the `kind` that pydantic inserts after the key of a section with kinds, and with a
    step's name instead of its number."""
    keys: list[str | int] = []
    for part in (part for part in loc if part != "[key]"):  # pydantic's marker for an invalid key of a table
        here = _value_at(values, keys)
        if keys == ["posttraining"] and isinstance(here, dict) and isinstance(part, int):
            keys.append(list(here)[part])
        elif not (isinstance(here, dict) and part not in here and (part in (here.get("kind"), PLUGIN) or keys[-1:] == [part])):
            keys.append(part)
    return keys


def _origin_of(key: str, origin: Origin) -> str:
    """The file that wrote `key`, a section around it, or a key inside it; empty if none did."""
    parts = key.split(".")
    for n in range(len(parts), 0, -1):
        if (around := ".".join(parts[:n])) in origin:
            return origin[around]
    return next((where for inner, where in origin.items() if inner.startswith(f"{key}.")), "")


def given(value: Any) -> str:
    """A value as shown in messages, shortened if long."""
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
    """All errors of a validation: the first one, with the others in its `more`. Unknown keys come first, and a key that is
    missing only because it is misspelt is left out."""
    details = sorted(error.errors(include_url=False), key=lambda d: d["type"] != "extra_forbidden")
    found, meant = list[UserError](), set[str]()
    for detail in details:
        loc = _keys_of(detail["loc"], values)
        if detail["type"] == "extra_forbidden":
            near = _meant(model, loc, values)
            meant |= {".".join(map(str, [*loc[:-1], *near]))}
            found.append(_unknown(loc, near, values, origin, shown))
        elif detail["type"] != "missing" or ".".join(map(str, loc)) not in meant:
            for what in _said(detail):
                found.append(_explained(detail, what, loc, values, origin, shown))
    return listed(found)


def listed(found: Sequence[UserError]) -> UserError:
    """The first of them, with the others, each once, in its `more`."""
    first, *more = {str(error): error for error in found}.values()
    if len(more) >= MOST_LINES:
        count = len(more) - MOST_LINES + 1
        more = [*more[: MOST_LINES - 1], UserError(f"and {count} more mistakes", where=first.where, remedy="mend these first")]
    first.more = tuple(more)
    return first


def _said(detail: Mapping[str, Any]) -> Sequence[str]:
    if detail["type"] != "value_error":
        return [""]
    error = detail["ctx"]["error"]
    return error.said if isinstance(error, Mistakes) else [str(error)]


def _short(loc: Sequence[str | int]) -> str:
    return ".".join(text if len(text := str(part)) <= 40 else f"{text[:40]}..." for part in loc)


def _unknown(loc: Sequence[str | int], near: Sequence[str], values: Any, origin: Origin, shown: str) -> UserError:
    value = _value_at(values, loc)
    shown_value = "" if isinstance(value, dict | list) else f" (given: {given(value)})"
    remedy = f"did you mean {near[0]!r}?" if near else "remove it, or see docs/recipes.md for the known keys"
    return UserError(f"{_short(loc)}: unknown key{shown_value}", where=_origin_of(_dotted(loc), origin) or shown, remedy=remedy)


def _dotted(loc: Sequence[str | int]) -> str:
    return ".".join(map(str, loc))


def _explained(
    detail: Mapping[str, Any], what: str, loc: Sequence[str | int], values: Any, origin: Origin, shown: str
) -> UserError:
    kind, key, where = detail["type"], _short(loc), _origin_of(_dotted(loc), origin) or shown
    value = _value_at(values, loc)
    if kind == "union_tag_invalid":
        known = str(detail["ctx"]["expected_tags"]).replace(f", '{PLUGIN}'", "")
        kinds = f"there is no kind {given(detail['ctx']['tag'])}; kinds are: {known}"
        near = difflib.get_close_matches(str(detail["ctx"]["tag"]), re.findall(r"'([^']+)'", known), n=1)
        return UserError(f"{key}: {kinds}", where=where, remedy=f"did you mean {near[0]!r}?" if near else "name one of them")
    if kind == "union_tag_not_found":
        return UserError(f"{key}.kind: this key is missing", where=where, remedy="add it; docs/recipes.md lists the kinds")
    if kind == "missing":
        return UserError(f"{key}: this key is missing", where=where, remedy="add it, or inherit a recipe that has it")
    if kind == "value_error":
        what, _, remedy = what.partition("; ")
        full = f"{key}: {what}" if key else what
        return UserError(full, where=_where_named(_dotted(loc), what, origin) or where, remedy=remedy)
    shown_value = f" (given: {given(value)})" if loc and not isinstance(value, dict | list) else ""
    wanted = _EXPECTED.get(kind, detail["msg"].replace("Input should be", "expected"))
    return UserError(f"{key}: {wanted}{shown_value}", where=where, remedy="correct the value")


def _where_named(section: str, what: str, origin: Origin) -> str:
    """The file that wrote the key with which a message about `section` begins, if it begins with a key."""
    key = re.split(r"[:=]", what, maxsplit=1)[0]
    return origin.get(f"{section}.{key}" if section else key, "")


def blamed(error: UserError, without: Callable[[], object], place: str) -> UserError:
    """`error`, with `place` as the location of those mistakes that disappear `without` the assignments of `place`, wherever
    else their keys are written."""
    try:
        without()
        before = set[str]()
    except UserError as known:
        before = {each.what for each in (known, *known.more)}
    each = [e if e.what in before else UserError(e.what, where=place, remedy=e.remedy) for e in (error, *error.more)]
    return listed(each)
