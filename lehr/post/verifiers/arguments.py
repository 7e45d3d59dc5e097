"""What arguments a verifier takes: names, types and what must hold of them, as pydantic models over plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lehr.runtime.errors import UserError, validators_words

Args = Mapping[str, Any]

EXTRA = {"math_verify": "rl", "regex": "rl", "jsonschema": "rl"}  # module -> extra of this package


class Arguments(BaseModel):
    """The arguments of one verifier. Types are JSON's: "5" is no number, and 1.0 is no integer."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


def _number(value: Any) -> Any:
    """An integer, or the text of one."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError as error:
            raise ValueError("it is not an integer") from error
    return value


Integer = Annotated[int, BeforeValidator(_number)]
Text = Annotated[str, Field(min_length=1)]


def checked(name: str, kind: type[Arguments], args: Args) -> None:
    """Raises UserError that names verifier `name` and the argument if `args` are not of `kind`, or not plain JSON."""
    if not isinstance(args, Mapping):
        raise UserError(f"verifier {name!r}: its arguments are a mapping, not {type(args).__name__}", remedy=_takes(kind))
    try:
        json.dumps(dict(args), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"verifier {name!r}: its arguments are not plain JSON ({error})", remedy=_takes(kind)) from error
    try:
        kind.model_validate(dict(args))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its arguments"
        raise UserError(
            f"verifier {name!r}, argument {where}: {validators_words(first['msg'])}", remedy=_takes(kind)
        ) from error


def _takes(kind: type[Arguments]) -> str:
    names = [f"{f.alias or n}{'' if f.is_required() else ' (optional)'}" for n, f in kind.model_fields.items()]
    return f"it takes {', '.join(names)}" if names else "it takes none"


def need(name: str, module: str) -> None:
    """Raises UserError if the package that verifier `name` is made of is not installed."""
    if find_spec(module) is None:
        extra = EXTRA[module]
        raise UserError(
            f"verifier {name!r} needs the package {module}", remedy=f"install the extra: pip install 'lehr[{extra}]'"
        )
