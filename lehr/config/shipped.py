"""The recipes and texts shipped with Lehr: the folder `recipes` of a checkout, `lehr/recipes` in an installation."""

from __future__ import annotations

import os
from pathlib import Path

from lehr.runtime.paths import is_relative
from lehr.runtime.yaml_file import read_mapping

FOLDER = (Path(__file__).resolve().parents[1] / "recipes").resolve()
_REMEDY = "install Lehr again"


def found(recipe: str | Path, folder: Path = Path()) -> Path:
    """The file of a recipe: its path relative to `folder`, or, if no such file exists, the shipped recipe of that name, as in
    `tiny/olmo2`."""
    path = folder / recipe
    if not os.path.lexists(path) and is_relative(str(recipe)):
        shipped = FOLDER / f"{recipe}.yaml"
        return shipped if os.path.isfile(shipped) else path  # os.path.isfile accepts names of any length, Path raises
    return path


def names() -> list[str]:
    """The names of all shipped recipes that are complete. Files to inherit from, and those of machines, have no `name`."""
    whole = [path for path in FOLDER.glob("*/*.yaml") if "name" in read_mapping(path, "recipe", _REMEDY)]
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in whole)
