"""Names in a recipe that may also mean something of the user's own: `my_module:attribute`, importable wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TypeVar

from lehr.runtime.errors import UserError

T = TypeVar("T")


def resolve(what: str, name: str, built_in: Mapping[str, T]) -> T:
    """The built-in object of that name, or the attribute that `module:attribute` names, imported here: every process that runs
    a stage finds it so. Raises UserError for anything else; `what` says what was looked for."""
    if name in built_in:
        return built_in[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        known = f"{what}s are: {', '.join(built_in)}; " if built_in else ""
        raise UserError(f"there is no {what} {name!r}", remedy=f"{known}one of your own is written module:attribute")
    try:
        found: T = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # ValueError, TypeError: no name of a module
        remedy = "put its module where Python finds it (PYTHONPATH), and mend the name"
        raise UserError(f"{what} {name!r}: {error}", remedy=remedy) from error
    except Exception as error:
        remedy = "mend its module; LEHR_DEBUG=1 shows where it fails"
        raise UserError(f"{what} {name!r}: {type(error).__name__}: {error}", remedy=remedy) from error
    return found
