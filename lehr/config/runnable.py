"""Whether this version can run a recipe, or only plan it."""

from __future__ import annotations

from lehr.config.data import ExternalSource
from lehr.config.recipe import Recipe
from lehr.errors import UserError


def check_runnable(recipe: Recipe) -> None:
    """Raises UserError, with all that is missing in one line, for data that must be supplied and stages not built yet."""
    absent = [name for name, source in recipe.data.sources.items() if isinstance(source, ExternalSource)]
    if absent:
        first = recipe.data.sources[absent[0]]
        raise UserError(
            f"{len(absent)} of its sources must be supplied: {', '.join(absent)}",
            where=f"recipe {recipe.name}",
            remedy=f"for each, put JSON lines on a disk and set data.sources.NAME to {{kind: jsonl, path: ..., license: ...}}; "
            f"{absent[0]} is at {getattr(first, 'uri', '')}. `lehr plan` works without data",
        )
    if recipe.posttraining:
        kinds = ", ".join(dict.fromkeys(stage.kind for stage in recipe.posttraining))
        raise UserError(
            f"its post-training plan ({kinds}) is a description that this version does not run",
            where=f"recipe {recipe.name}",
            remedy="set posttraining to [] and use the sections sft, dpo and rlvr",
        )
