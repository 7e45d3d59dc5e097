"""The recipe's keys as Markdown tables, generated from the models: the lower part of docs/recipes.md.

`make reference` rewrites everything below the file's marker line.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lehr.config.recipe import Recipe

MARKER = "<!-- Below this line: make reference -->"
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "anything"}
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def _limits(metadata: list[Any]) -> str:
    given = [(sign, getattr(m, name, None)) for m in metadata for name, sign in _SIGNS.items()]
    signs = [f"{sign} {limit}" for sign, limit in given if limit is not None]
    return f" {', '.join(signs)}" if signs else ""


def _typed(annotation: Any, metadata: list[Any]) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        base, *more = inner
        unpacked = [x for m in more for x in (m.metadata if isinstance(m, FieldInfo) else [m])]
        return _typed(base, [*metadata, *unpacked])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin is list:
        return f"list of {_typed(inner[0], [])}"
    if origin is dict:
        return f"table: name to {_typed(inner[1], [])}"
    if origin in (Union, UnionType):
        return " or ".join(_typed(part, []) for part in inner)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    if annotation is type(None):
        return "nothing"
    return _WORDS[annotation] + _limits(metadata)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "see there" if isinstance(value, BaseModel) else f"`{value!r}`"


def _models(model: type[BaseModel], seen: list[type[BaseModel]]) -> list[type[BaseModel]]:
    """`model` and every model in it, in reading order."""
    if model not in seen:
        seen.append(model)
        waiting = [field.annotation for field in model.model_fields.values()]
        while waiting:
            annotation: Any = waiting.pop(0)
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                _models(annotation, seen)
            waiting = [*get_args(annotation), *waiting]
    return seen


def reference() -> str:
    """One section for each model: its docstring, then key, type with limits, default."""
    lines = []
    for model in _models(Recipe, []):
        lines += [f"## {model.__name__}", "", " ".join((model.__doc__ or "").split()), ""]
        lines += ["| key | type | default |", "|---|---|---|"]
        for name, field in model.model_fields.items():
            lines.append(f"| `{name}` | {_typed(field.annotation, list(field.metadata))} | {_default(field)} |")
        lines.append("")
    return "\n".join(lines)


def with_reference(text: str) -> str:
    """`text` with everything below its marker line replaced by the reference."""
    return f"{text.partition(MARKER)[0]}{MARKER}\n\n{reference()}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_reference(page.read_text(encoding="utf-8")), encoding="utf-8")
