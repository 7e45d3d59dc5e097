"""JSON of the views, actions and verdicts, for annotations, termination messages and the controller's log.

Values equal to their default are left out, so that annotations stay small and old records stay readable when a field is added.
Decoding validates: text written by a person or a pod may have any shape.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Hashable, Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def to_data(value: Any) -> Any:
    """Plain JSON data of a view, an action or any nesting of them."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: to_data(v) for f, v in kept if f.name == "kind" or not _is_default(f, v)}
    if isinstance(value, Mapping):
        return {str(k): to_data(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_data(v) for v in value]
    return value


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return bool(value == field.default)


def encode(value: Any) -> str:
    """One line of compact JSON."""
    return json.dumps(to_data(value), separators=(",", ":"), sort_keys=True, ensure_ascii=False)


# Cached: building a TypeAdapter takes milliseconds, and every annotation of every node is decoded.
@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def decode(kind: type[T], text: str | bytes) -> T:
    """The value of class `kind` in `text`. Raises ValueError if it is not JSON, has another shape, or contains NaN or
    infinity."""
    try:
        found: T = _adapter(cast(Hashable, kind)).validate_json(text)
    except ValidationError as error:
        raise ValueError(f"not a {kind.__name__}: {error.errors()[0]['msg']}") from error
    if not _is_finite(found):
        raise ValueError(f"not a {kind.__name__}: a number in it is not finite")
    return found


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if dataclasses.is_dataclass(value):
        return all(_is_finite(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, tuple | list) else True


def from_data(kind: Any, data: Any) -> Any:
    """As `decode`, from plain data. Raises ValueError."""
    try:
        return _adapter(kind).validate_python(data)
    except ValidationError as error:
        raise ValueError(f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from error
