"""The recipes that come with Lehr: what each is and takes, and a copy of one."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lehr.artifacts.artifact import write_beside
from lehr.config import Recipe, load_recipe
from lehr.config.load import inherited
from lehr.config.runnable import check_runnable
from lehr.config.shipped import FOLDER, names
from lehr.model.size import active_parameter_count, parameter_count
from lehr.planning.plan import plan_run
from lehr.runtime.errors import UserError, from_os_error


@dataclass(frozen=True)
class Shipped:
    """`complete`: nothing must be supplied. Times are planned, for the machines that the recipe names."""

    name: str
    description: str
    parameters: int
    active: int  # of them, for each token
    complete: bool
    seconds: float
    gpu_hours: float


def shipped() -> Iterator[Shipped]:
    """All of them; those that run as they are come first."""
    found = [_described(name, load_recipe(name)) for name in names()]
    yield from sorted(found, key=lambda one: (not one.complete, one.name))


def _described(name: str, recipe: Recipe) -> Shipped:
    model, total = recipe.model, plan_run(recipe).total
    sizes = parameter_count(model), active_parameter_count(model)
    return Shipped(name, recipe.description, *sizes, _complete(recipe), total["seconds"], total["gpu_hours"])


def _complete(recipe: Recipe) -> bool:
    try:
        check_runnable(recipe)
    except UserError:
        return False
    return True


def copied(name: str, folder: Path) -> list[Path]:
    """Copy the recipe `name` with all that it needs into `folder`, where it lies as it does here; returns the copies, the
    recipe's own first. Raises UserError for an unknown name, and where another file is in the way; nothing is written then."""
    known = names()
    if name not in known:
        raise UserError(f"{name!r} is no shipped recipe", where="lehr recipes copy", remedy=f"give one of {', '.join(known)}")
    pairs = [(file, folder / file.relative_to(FOLDER)) for file in _needed(FOLDER / f"{name}.yaml")]
    try:
        for file, copy in pairs:
            if copy.exists() and not filecmp.cmp(file, copy, shallow=False):
                raise UserError("another file has this name", where=copy, remedy="give another folder, or move that file away")
        for file, copy in pairs:
            if not copy.exists():
                _copy(file, copy)
    except OSError as error:
        raise from_os_error(error, folder) from error
    return [copy for _, copy in pairs]


def _copy(file: Path, target: Path) -> None:
    write_beside(target, lambda beside: shutil.copyfile(file, beside))


def _needed(recipe: Path) -> list[Path]:
    """Its file, what it inherits from, the texts that it reads, and what says whose they are."""
    data = load_recipe(recipe).data
    paths = [getattr(source, "path", None) for source in data.sources.values()] if data else []
    texts = [path for path in map(Path, filter(None, paths)) if path.is_relative_to(FOLDER)]
    beside = [file for place in {text.parent for text in texts} for file in place.iterdir()]
    return [*inherited(recipe), *texts, *(file for file in beside if file.suffix in (".txt", ".md"))]
