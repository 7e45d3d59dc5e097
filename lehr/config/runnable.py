"""Whether this version can run a recipe, or only plan it."""

from __future__ import annotations

from lehr.config.data import ExternalSource
from lehr.config.recipe import Recipe
from lehr.errors import UserError


def check_runnable(recipe: Recipe) -> None:
    """Raises UserError, with all that is missing in one line: data that must be supplied, stages that are not run."""
    sources = recipe.data.sources if recipe.data else {}
    absent = {name: source for name, source in sources.items() if isinstance(source, ExternalSource)}
    if absent:
        raise UserError(f"{len(absent)} of its sources must be supplied: {', '.join(absent)}", where=f"recipe {recipe.name}")
