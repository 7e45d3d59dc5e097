"""Names in a recipe that may also refer to a user's own code: `my_module:attribute`, importable in every process."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TypeVar

from lehr.runtime.errors import UserError

T = TypeVar("T")


def resolve(what: str, name: str, built_in: Mapping[str, T]) -> T:
    """The built-in object of that name, or the attribute that `module:attribute` names, imported here, as in every process that
    runs a stage. Raises UserError for anything else; `what` names the kind of object in the message."""
    if name in built_in:
        return built_in[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        known = f"{what}s are: {', '.join(built_in)}; " if built_in else ""
        raise UserError(f"there is no {what} {name!r}", remedy=f"{known}one of your own is written module:attribute")
    try:
        found: T = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # ValueError, TypeError: not a module's name
        remedy = "make its module importable (PYTHONPATH), and check the name"
        raise UserError(f"{what} {name!r}: {error}", remedy=remedy) from error
    except Exception as error:
        remedy = "fix the module; LEHR_DEBUG=1 shows where it fails"
        raise UserError(f"{what} {name!r}: {type(error).__name__}: {error}", remedy=remedy) from error
    return found
