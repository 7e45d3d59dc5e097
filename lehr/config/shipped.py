"""The recipes and texts that come with Lehr: the folder `recipes` of a checkout, in an installation `lehr/recipes`."""

from __future__ import annotations

import os
from pathlib import Path

from lehr.runtime.paths import is_relative
from lehr.runtime.yaml_file import read_mapping

FOLDER = (Path(__file__).resolve().parents[1] / "recipes").resolve()
_REMEDY = "install Lehr again"


def found(recipe: str | Path, folder: Path = Path()) -> Path:
    """The file of a recipe: its path, seen from `folder`, or, where nothing of that name lies there, that of the shipped one
    called so, as in `tiny/olmo2`."""
    path = folder / recipe
    if not os.path.lexists(path) and is_relative(str(recipe)):
        shipped = FOLDER / f"{recipe}.yaml"
        return shipped if os.path.isfile(shipped) else path  # which takes a name of any length
    return path


def names() -> list[str]:
    """Of all shipped recipes that are whole. Files that others inherit from, and those of machines, have no `name`."""
    whole = [path for path in FOLDER.glob("*/*.yaml") if "name" in read_mapping(path, "recipe", _REMEDY)]
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in whole)
